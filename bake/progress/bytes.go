package progress

import (
	"fmt"
	"time"
)

// Bytes writes a number of bytes for people, in powers of 1000: "93.1 MB".
func Bytes(n int64) string {
	if n < 0 {
		return "-" + Bytes(-n)
	}
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	units := "kMGTPE"
	value := float64(n) / 1000
	// 999.95 would be printed as 1000.0.
	for value >= 999.95 {
		value /= 1000
		units = units[1:]
	}
	return fmt.Sprintf("%.1f %cB", value, units[0])
}

// duration writes a duration to a tenth of a second, from a minute on to the
// second.
func duration(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return d.Round(time.Second).String()
}

// seconds writes a duration that goes on, in whole seconds that have passed.
func seconds(d time.Duration) string { return max(d, 0).Truncate(time.Second).String() }
