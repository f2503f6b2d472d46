package fetch

import "net/http"

// Through returns a Fetcher like f whose requests go through wrap(base), where
// base sends them as f would and sets f's User-Agent: for servers that want to
// know who asks. What both fetch is fetched once.
func (f *Fetcher) Through(wrap func(base http.RoundTripper) http.RoundTripper) *Fetcher {
	client := *f.client
	client.Transport = wrap(userAgent{f.client.Transport, f.config.UserAgent})
	through := *f
	through.client = &client
	return &through
}

// userAgent names this program, whatever a request says.
type userAgent struct {
	base http.RoundTripper
	name string
}

func (u userAgent) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("User-Agent", u.name)
	return u.base.RoundTrip(r)
}
