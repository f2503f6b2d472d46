package cluster

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/nodebake/bake/bake/gce"
)

// Worker is one machine, numbered as the guide does it: worker-I has the address
// 10.240.0.20 + I, and its pods are in 10.200.I.0/24.
type Worker struct {
	Name    string       `json:"name"`
	IP      netip.Addr   `json:"ip"`
	PodCIDR netip.Prefix `json:"podCIDR"`
}

const (
	firstHost  = 20  // the last byte of the first worker's address
	maxWorkers = 100 // far below what addresses allow
)

// numbered returns the worker with number i, called name.
func numbered(i int, name string) Worker {
	return Worker{
		Name:    name,
		IP:      netip.AddrFrom4([4]byte{10, 240, 0, byte(firstHost + i)}),
		PodCIDR: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 200, byte(i), 0}), 24),
	}
}

// Workers returns the first n workers.
func Workers(n int) []Worker {
	workers := make([]Worker, n)
	for i := range workers {
		workers[i] = numbered(i, "worker-"+strconv.Itoa(i))
	}
	return workers
}

// next returns a worker that joins the others: worker-I with number I where that
// is free, another name with the first free number.
func next(name string, have []Worker) (Worker, error) {
	if !gce.IsName(name) {
		return Worker{}, fmt.Errorf("%q can't be a worker's name: want a lower-case letter, then up to 62 of a-z, 0-9 and -, no hyphen last", name)
	}
	taken := map[netip.Addr]string{}
	for _, w := range have {
		if w.Name == name {
			return Worker{}, fmt.Errorf("there is a worker %s already (--replace starts it anew on a fresh disk)", name)
		}
		taken[w.IP] = w.Name
	}
	free := func(i int) bool { return taken[numbered(i, name).IP] == "" }
	if digits, ok := strings.CutPrefix(name, "worker-"); ok {
		if i, err := strconv.Atoi(digits); err == nil && strconv.Itoa(i) == digits && i < maxWorkers {
			if !free(i) {
				w := numbered(i, name)
				return Worker{}, fmt.Errorf("worker %s has %s, the address of %s (give another name)", taken[w.IP], w.IP, name)
			}
			return numbered(i, name), nil
		}
	}
	for i := range maxWorkers {
		if free(i) {
			return numbered(i, name), nil
		}
	}
	return Worker{}, fmt.Errorf("there are %d workers, and no more can be", maxWorkers)
}

// find returns the place of the worker called name, -1 where there is none.
func find(workers []Worker, name string) int {
	return slices.IndexFunc(workers, func(w Worker) bool { return w.Name == name })
}
