// Package secrets finds files in an image that look like credentials: private
// keys, tokens, password files. It looks at names and at the first MiB of
// contents, and errs on the side of asking.
package secrets

import (
	"bytes"
	"io"
	"path"
	"regexp"
	"strings"

	"gosv/image/rootfs"
)

// looked is how much of a file is searched, in bytes.
const looked = 1 << 20

// Finding is a file that looks like a secret.
type Finding struct {
	Path string
	Why  string
}

// names of files that hold secrets by custom; a name with a slash is the end of a path.
var names = map[string]string{
	".netrc": "passwords for hosts", ".pgpass": "passwords of PostgreSQL", ".git-credentials": "passwords of git", ".htpasswd": "password hashes",
	"id_rsa": "a private SSH key", "id_dsa": "a private SSH key", "id_ecdsa": "a private SSH key", "id_ed25519": "a private SSH key",
	".aws/credentials": "keys of AWS", ".docker/config.json": "tokens of registries", ".kube/config": "keys of Kubernetes clusters",
	".config/gcloud/credentials.db": "keys of Google Cloud", "etc/krb5.keytab": "Kerberos keys", ".vault-token": "a token of Vault",
}

// contents that give a secret away, each with a word that must occur for the expression to be tried.
var contents = []struct {
	word string
	re   *regexp.Regexp
	why  string
}{
	{"PRIVATE KEY", regexp.MustCompile(`(?m)^-----BEGIN ([A-Z0-9]+ )*PRIVATE KEY( BLOCK)?-----\r?\n[A-Za-z0-9+/=\r\n:, -]{64}`), "a private key"},
	{"AKIA", regexp.MustCompile(`\bAKIA[0-9A-Z]{16}\b`), "a key of AWS"},
	{"gh", regexp.MustCompile(`\bgh[pousr]_[A-Za-z0-9]{36}\b`), "a token of GitHub"},
	{"github_pat_", regexp.MustCompile(`\bgithub_pat_[A-Za-z0-9_]{60,}`), "a token of GitHub"},
	{"glpat-", regexp.MustCompile(`\bglpat-[A-Za-z0-9_-]{20}`), "a token of GitLab"},
	{"xox", regexp.MustCompile(`\bxox[abprs]-[0-9]{6,}-[A-Za-z0-9-]{10,}`), "a token of Slack"},
	{"AIza", regexp.MustCompile(`\bAIza[A-Za-z0-9_-]{35}\b`), "a key of Google"},
	{"_authToken", regexp.MustCompile(`(?m)^\s*//\S+:_authToken\s*=\s*[^\s$]{8,}`), "a token of npm"},
	{"sk_live_", regexp.MustCompile(`\bsk_live_[A-Za-z0-9]{24,}`), "a key of Stripe"},
}

// Scan looks at all files of a tree.
func Scan(tree *rootfs.Tree) ([]Finding, error) {
	var found []Finding
	buf := make([]byte, looked)
	err := tree.Walk(func(full string, e rootfs.Entry) error {
		if !e.Mode.IsRegular() || e.Size == 0 {
			return nil
		}
		if why := byName(full); why != "" {
			found = append(found, Finding{full, why})
			return nil
		}
		b, err := head(e, buf)
		if err != nil {
			return err
		}
		if why := byContents(b); why != "" {
			found = append(found, Finding{full, why})
		}
		return nil
	})
	return found, err
}

func byName(full string) string {
	base := path.Base(full)
	if base == ".env" || strings.HasPrefix(base, ".env.") && base != ".env.example" && base != ".env.sample" && base != ".env.template" {
		return "settings that often hold passwords"
	}
	for name, why := range names {
		if strings.HasSuffix(full, "/"+name) {
			return why
		}
	}
	return ""
}

// head returns the beginning of a file; nothing for a program, whose
// constants are often made to look for secrets.
func head(e rootfs.Entry, buf []byte) ([]byte, error) {
	if e.Open == nil {
		return nil, nil
	}
	f, err := e.Open()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	n, err := io.ReadFull(f, buf[:4])
	if err == nil && string(buf[:4]) != "\x7fELF" {
		var more int
		more, err = io.ReadFull(f, buf[4:])
		n += more
	}
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = nil
	}
	return buf[:n], err
}

func byContents(b []byte) string {
	for _, c := range contents {
		if bytes.Contains(b, []byte(c.word)) && c.re.Match(b) {
			return c.why
		}
	}
	return ""
}
