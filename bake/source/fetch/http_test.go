package fetch

import (
	"net/http"
	"testing"
	"time"
)

func TestRetryAfterDate(t *testing.T) {
	date := time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		after string
		want  time.Duration
	}{
		{"", 0},
		{"7", 7 * time.Second},
		{"-7", 0},
		{"86400", maxRetryAfter},
		{date.Add(9 * time.Second).Format(http.TimeFormat), 9 * time.Second},
		{date.Add(-9 * time.Second).Format(http.TimeFormat), 0},
		{"soon", 0},
	} {
		resp := &http.Response{StatusCode: 503, Header: http.Header{}}
		resp.Header.Set("Date", date.Format(http.TimeFormat))
		resp.Header.Set("Retry-After", test.after)
		if got := NewStatusError(resp).RetryAfter; got != test.want {
			t.Errorf("Retry-After %q = %v; want %v", test.after, got, test.want)
		}
	}
}

func TestParseContentRange(t *testing.T) {
	for _, test := range []struct {
		in          string
		start, size int64
		ok          bool
	}{
		{"bytes 100-199/200", 100, 200, true},
		{"bytes 0-0/1", 0, 1, true},
		{"bytes 5-9/*", 5, -1, true},
		{"bytes */200", 0, 0, false},
		{"bytes 100-199/150", 0, 0, false},
		{"bytes 9-5/100", 0, 0, false},
		{"bytes -5-9/100", 0, 0, false},
		{"100-199/200", 0, 0, false},
		{"", 0, 0, false},
	} {
		start, size, ok := parseContentRange(test.in)
		if ok != test.ok || ok && (start != test.start || size != test.size) {
			t.Errorf("parseContentRange(%q) = %d, %d, %v; want %d, %d, %v", test.in, start, size, ok, test.start, test.size, test.ok)
		}
	}
}
