package routes

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path"
)

// ParseExisting reads what `gcloud compute routes list --format json` prints: the
// API's resources (cloud.google.com/compute/docs/reference/rest/v1/routes), of
// which only the fields named here count. IPv6 routes are passed over.
func ParseExisting(data []byte) ([]Existing, error) {
	var list []struct {
		Name      string `json:"name"`
		Network   string `json:"network"`   // URL
		DestRange string `json:"destRange"` // 10.200.0.0/24

		NextHopIP       string `json:"nextHopIp"`
		NextHopInstance string `json:"nextHopInstance"`
		NextHopGateway  string `json:"nextHopGateway"`
		NextHopNetwork  string `json:"nextHopNetwork"`
		NextHopPeering  string `json:"nextHopPeering"`
		NextHopTunnel   string `json:"nextHopVpnTunnel"`
		NextHopILB      string `json:"nextHopIlb"`
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, errors.New("not what `gcloud compute routes list --format json` prints: want a list of routes")
	}
	var all []Existing
	for i, r := range list {
		destination, err := netip.ParsePrefix(r.DestRange)
		if err != nil || r.Name == "" {
			return nil, fmt.Errorf("not what `gcloud compute routes list --format json` prints: route %d has no name, or no destRange", i+1)
		}
		if !destination.Addr().Is4() {
			continue
		}
		e := Existing{Name: r.Name, Network: path.Base(r.Network), Destination: destination, NextHop: "nothing that is known"}
		for _, hop := range []string{r.NextHopIP, r.NextHopInstance, r.NextHopGateway, r.NextHopNetwork, r.NextHopPeering, r.NextHopTunnel, r.NextHopILB} {
			if hop != "" {
				e.NextHop = path.Base(hop)
				break
			}
		}
		all = append(all, e)
	}
	return all, nil
}
