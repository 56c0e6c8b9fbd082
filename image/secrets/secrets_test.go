package secrets

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"strings"
	"testing"

	"gosv/image/rootfs"
)

// The samples are put together here, so that no scanner takes this file for one.
func TestScan(t *testing.T) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
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
		"/etc/account.json": {`{"private_key": "` + strings.ReplaceAll(key, "\n", `\n`) + `"}`, true}, "/etc/secret.yaml": {"key: |\n  " + strings.ReplaceAll(key, "\n", "\n  "), true},
		"/etc/data.yaml": {"key: " + base64.StdEncoding.EncodeToString([]byte(key)), true}, "/etc/cert.yaml": {"crt: " + base64.StdEncoding.EncodeToString([]byte("-----BEGIN CERTIFICATE-----")), false},
		"/etc/old.pem": {"-----BEGIN " + "RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n" + key[32:], true},
		"/etc/key.der": {string(der), true}, "/etc/ec.der": {string(ec), true}, "/etc/public.der": {string(public), false}, "/prod.env": {"A=b", true},
		"/etc/shadow": {"root:*:19000:0:99999:7:::\nme:$y$j9T$abcdefghij$klmnopqrstuvwxyz0123456789:19000:0:99999:7:::\n", true}, "/etc/shadow-": {"root:*:19000:0:99999:7:::\n", false},
		"/etc/store.P12": {"x", true}, "/k": {"PuTTY-User-Key-File-3: ssh-ed25519\n", true}, "/npm": {"npm" + "_" + strings.Repeat("aB1", 12), true},
		"/s3": {"aws_secret_access_key = " + strings.Repeat("abcd", 10), true}, "/run/secrets/kubernetes.io/serviceaccount/token": {"x", true},
		"/late": {strings.Repeat("\n", 500_000) + key, true},
	}
	tree := rootfs.New(rootfs.Options{})
	for name, f := range files {
		if err := tree.File(name, 0o600, []byte(f.text)); err != nil {
			t.Fatal(err)
		}
	}
	var read int64
	found, err := Scan(tree, func(done int64) { read = done })
	if err != nil {
		t.Fatal(err)
	}
	if read < 500_000 {
		t.Errorf("%d bytes read", read)
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
