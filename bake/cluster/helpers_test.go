package cluster

import (
	"context"
	"net/netip"
	"os/signal"
	"syscall"

	"github.com/google/go-cmp/cmp"
)

func compareAddresses() cmp.Option {
	return cmp.Options{
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	}
}

func signalContext() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), syscall.SIGTERM)
}
