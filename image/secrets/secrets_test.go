package secrets

import (
	"strings"
	"testing"

	"gosv/image/rootfs"
)

// The samples are put together here, so that no scanner takes this file for one.
func TestScan(t *testing.T) {
	key := "-----BEGIN " + "RSA PRIVATE KEY-----\n" + strings.Repeat("MIIEowIBAAKCAQEA", 8) + "\n"
	files := map[string]struct {
		text   string
		secret bool
	}{
		"/app/.env": {"A=b", true}, "/app/.env.production": {"A=b", true}, "/app/.env.example": {"A=", false}, "/root/.ssh/id_ed25519": {"x", true},
		"/root/.ssh/id_ed25519.pub": {"ssh-ed25519 AAAA", false}, "/etc/ssl/server.key": {key, true}, "/etc/ssl/cert.pem": {"-----BEGIN CERTIFICATE-----\n", false},
		"/usr/share/doc/x": {"say -----BEGIN " + "RSA PRIVATE KEY----- here", false}, "/app/aws": {"id = AKI" + "AIOSFODNN7EXAMPLE\n", true},
		"/app/token": {"gh" + "p_" + strings.Repeat("a1", 18), true}, "/app/empty/.netrc": {"", false}, "/.npmrc": {"//registry/:_auth" + "Token=abcdefgh12\n", true},
		"/usr/bin/tool": {"\x7fELF" + key, false}, "/root/.docker/config.json": {"{}", true},
		"/late": {strings.Repeat("\n", 500_000) + key, true},
	}
	tree := rootfs.New(rootfs.Options{})
	for name, f := range files {
		if err := tree.File(name, 0o600, []byte(f.text)); err != nil {
			t.Fatal(err)
		}
	}
	found, err := Scan(tree)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, f := range found {
		got[f.Path] = f.Why != ""
	}
	for name, f := range files {
		if got[name] != f.secret {
			t.Errorf("%s: %v, want %v", name, got[name], f.secret)
		}
	}
}
