package emulator

import (
	"crypto/rand"
	"maps"
	"slices"
)

// serviceAccounts is the directory of that name.
func (s *Server) serviceAccounts(accounts []ServiceAccount) dir {
	d := dir{}
	for i, a := range accounts {
		if a.Scopes == nil {
			a.Scopes = []string{CloudPlatform}
		}
		s.scopes[a.Email] = a.Scopes
		entry := dir{
			"email":  a.Email,
			"scopes": lines(a.Scopes),
			"token":  computed(func() string { return s.newToken(a.Email) }),
		}
		if i == 0 {
			entry["aliases"] = lines{"default"}
			d["default"] = entry
		} else {
			entry["aliases"] = lines{}
		}
		d[a.Email] = entry
	}
	return d
}

// newToken is the answer to a request for a token of account: a fresh one, good
// for an hour by its own account and until [Server.RevokeTokens] in fact. The
// caller holds s.mu.
func (s *Server) newToken(account string) string {
	token := "ya29.emulator-" + rand.Text()
	s.tokens[token] = account
	return mustJSON(map[string]any{"access_token": token, "expires_in": 3599, "token_type": "Bearer"})
}

// Tokens returns the access tokens that are good, sorted: to look for them
// where they may not be.
func (s *Server) Tokens() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.tokens))
}

// RevokeTokens ends every token issued so far.
func (s *Server) RevokeTokens() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.tokens)
}

// account returns whose token it is, and the scopes that it has.
func (s *Server) account(token string) (email string, scopes []string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	email, ok = s.tokens[token]
	return email, s.scopes[email], ok
}
