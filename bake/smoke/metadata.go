package smoke

import "context"

// metadataStep has pods ask for the node's metadata, which they must not get, and
// for a name at the same address, which they must.
func (r *run) metadataStep(ctx context.Context) {
	r.noteBroken(r.askAll(ctx, Metadata, r.metadataChecks()...))
}

func (r *run) metadataChecks() []check {
	var checks []check
	for _, p := range r.places {
		guard, names := metadataCheck(r.Namespace, p), metadataNameCheck(r.Namespace, p)
		guard.skip, names.skip = r.broken[p.name], r.broken[p.name]
		checks = append(checks, guard, names)
	}
	return checks
}

// metadataCheck asks for the instance's number, which is no secret.
func metadataCheck(namespace string, p place) check {
	return check{
		name: "refused on " + p.name,
		call: busybox(namespace, p, "timeout", "8", "busybox", "wget", "-q", "-O", "-", "--header", "Metadata-Flavor: Google",
			"http://"+outsideAddress+"/computeMetadata/v1/instance/id"),
		judge: inPod(p, func(o output) finding {
			if reached(o) {
				return failed("a pod on "+p.name+" reads metadata: the node's keys, and tokens of its service account",
					"the metadata guard is not loaded there",
					"gcloud compute ssh "+p.name+" --command 'sudo systemctl restart worker-nftables; sudo nft list table inet metadata-guard'")
			}
			return passed("%s: %s", outsideAddress, wgetSaid(o))
		}),
	}
}

// metadataNameCheck asks the DNS server that is at the same address.
func metadataNameCheck(namespace string, p place) check {
	return check{
		name: "DNS on " + p.name, tries: 2,
		call: lookUp(namespace, p, outsideName+".", outsideAddress),
		judge: inPod(p, func(o output) finding {
			f := judgeAnswer(o, outsideName, outsideAddress)
			if !f.passed {
				f.cause = "the guard keeps DNS from pods too, or the node is no Compute Engine instance (--skip metadata)"
				f.next = []string{"gcloud compute ssh " + p.name + " --command 'sudo nft list table inet metadata-guard'"}
			}
			return f
		}),
	}
}
