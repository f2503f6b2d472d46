package rootfs

// addAccounts makes the users and groups: those that every Debian has (from
// base-passwd), those that the definition declares, and those of sysusers.d.
func (l *layout) addAccounts() error {
	if err := l.accounts.ReadMasters(l.Layout); err != nil {
		return err
	}
	for _, s := range l.scripts() {
		if err := l.accounts.Declare(s); err != nil {
			return err
		}
	}
	if err := l.accounts.ApplySysusers(l.Layout); err != nil {
		return err
	}
	_, shadow, err := l.accounts.Owner("root", "shadow")
	if err != nil {
		return err
	}
	passwdFile, groupFile, shadowFile, gshadowFile := l.accounts.Files(l.Epoch)
	l.make("/etc/passwd", 0o644, passwdFile)
	l.make("/etc/group", 0o644, groupFile)
	l.makeOwned("/etc/shadow", 0o640, 0, shadow, shadowFile)
	l.makeOwned("/etc/gshadow", 0o640, 0, shadow, gshadowFile)
	l.make("/etc/subuid", 0o644, nil)
	l.make("/etc/subgid", 0o644, nil)
	return nil
}
