// Package secrets finds files in an image that look like credentials: private
// keys, tokens, password files. It looks at names and at the first MiB of
// contents, and errs on the side of asking.
package secrets

import (
	"bytes"
	"crypto/x509"
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
	"id_ecdsa_sk": "a private SSH key", "id_ed25519_sk": "a private SSH key", "secring.gpg": "private keys of GnuPG",
	".aws/credentials": "keys of AWS", ".docker/config.json": "tokens of registries", ".dockercfg": "tokens of registries", ".kube/config": "keys of Kubernetes clusters",
	".config/gcloud/credentials.db": "keys of Google Cloud", ".config/gcloud/application_default_credentials.json": "keys of Google Cloud", "etc/krb5.keytab": "Kerberos keys",
	".vault-token": "a token of Vault", ".pypirc": "passwords of package indexes", ".my.cnf": "passwords of MySQL", ".mylogin.cnf": "passwords of MySQL", ".s3cfg": "keys of S3",
	"rclone/rclone.conf": "keys of rclone", ".config/gh/hosts.yml": "a token of GitHub", "serviceaccount/token": "a token of Kubernetes", "terraform.tfstate": "state of Terraform, which holds passwords",
}

// endings of names of files that hold secrets by custom.
var endings = map[string]string{
	".p12": "a store of private keys", ".pfx": "a store of private keys", ".jks": "a store of private keys", ".keystore": "a store of private keys",
	".ppk": "a private SSH key", ".kdbx": "a store of passwords",
}

// pemKey is a private key in PEM (RFC 7468), also indented or in one line with \n, as YAML and JSON hold it.
const pemKey = `-----BEGIN ([A-Z0-9]+ )*PRIVATE KEY( BLOCK)?-----(\r?\n|\\n|\\r\\n)([A-Za-z-]+: [^\n]*\n)*\s*[A-Za-z0-9+/=]{40}`

// contents that give a secret away, each with words: where one of them is, the expression is tried on its line
// and a little of what follows.
var contents = []struct {
	words []string
	re    *regexp.Regexp
	why   string
}{
	{[]string{"PRIVATE KEY"}, regexp.MustCompile(pemKey), "a private key"},
	{[]string{"LS0tLS1CRUdJTiB"}, regexp.MustCompile(`LS0tLS1CRUdJTiB(QUklWQVRFIEtFWS|SU0EgUFJJVkFURSBLRVkt|FQyBQUklWQVRFIEtFWS|PUEVOU1NIIFBSSVZBVEUgS0VZ)`), "a private key in base64"},
	{[]string{"PuTTY-User-Key-File-"}, regexp.MustCompile(`(?m)^PuTTY-User-Key-File-[23]: `), "a private SSH key"},
	{[]string{"AGE-SECRET-KEY-"}, regexp.MustCompile(`\bAGE-SECRET-KEY-1[A-Z0-9]{58}\b`), "a key of age"},
	{[]string{":$1$", ":$2a$", ":$2b$", ":$2y$", ":$5$", ":$6$", ":$7$", ":$y$", ":$gy$"}, regexp.MustCompile(`(?m)^[a-z_][a-z0-9_-]*:\$(1|2[aby]|5|6|y|gy|7)\$[./A-Za-z0-9$]{20,}:`), "password hashes"},
	{[]string{"AKIA"}, regexp.MustCompile(`\bAKIA[0-9A-Z]{16}\b`), "a key of AWS"},
	{[]string{"aws_secret_access_key"}, regexp.MustCompile(`\baws_secret_access_key\s*=\s*[A-Za-z0-9/+]{40}\b`), "a key of AWS"},
	{[]string{"ghp_", "gho_", "ghu_", "ghs_", "ghr_"}, regexp.MustCompile(`\bgh[pousr]_[A-Za-z0-9]{36}\b`), "a token of GitHub"},
	{[]string{"github_pat_"}, regexp.MustCompile(`\bgithub_pat_[A-Za-z0-9_]{60,}`), "a token of GitHub"},
	{[]string{"glpat-"}, regexp.MustCompile(`\bglpat-[A-Za-z0-9_-]{20}`), "a token of GitLab"},
	{[]string{"xoxa-", "xoxb-", "xoxp-", "xoxr-", "xoxs-"}, regexp.MustCompile(`\bxox[abprs]-[0-9]{6,}-[A-Za-z0-9-]{10,}`), "a token of Slack"},
	{[]string{"AIza"}, regexp.MustCompile(`\bAIza[A-Za-z0-9_-]{35}\b`), "a key of Google"},
	{[]string{"_authToken"}, regexp.MustCompile(`(?m)^\s*//\S+:_authToken\s*=\s*[^\s$]{8,}`), "a token of npm"},
	{[]string{"npm_"}, regexp.MustCompile(`\bnpm_[A-Za-z0-9]{36}\b`), "a token of npm"},
	{[]string{"pypi-AgE"}, regexp.MustCompile(`\bpypi-AgE[A-Za-z0-9_-]{60,}`), "a token of a package index"},
	{[]string{"dckr_pat_"}, regexp.MustCompile(`\bdckr_pat_[A-Za-z0-9_-]{20,}`), "a token of Docker"},
	{[]string{"hf_"}, regexp.MustCompile(`\bhf_[A-Za-z]{34}\b`), "a token of Hugging Face"},
	{[]string{"_live_"}, regexp.MustCompile(`\b[sr]k_live_[A-Za-z0-9]{24,}`), "a key of Stripe"},
	{[]string{"SG."}, regexp.MustCompile(`\bSG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}\b`), "a key of SendGrid"},
}

// Scan looks at all files of a tree. progress is told how many bytes are read by now.
func Scan(tree *rootfs.Tree, progress func(int64)) ([]Finding, error) {
	var found []Finding
	var done int64
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
		done += int64(len(b))
		progress(done)
		if why := byContents(b); why != "" {
			found = append(found, Finding{full, why})
		}
		return nil
	})
	return found, err
}

func byName(full string) string {
	base := path.Base(full)
	if path.Ext(base) == ".env" || strings.HasPrefix(base, ".env.") && base != ".env.example" && base != ".env.sample" && base != ".env.template" {
		return "settings that often hold passwords"
	}
	for name, why := range names {
		if strings.HasSuffix(full, "/"+name) {
			return why
		}
	}
	return endings[strings.ToLower(path.Ext(base))]
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
	if derKey(b) {
		return "a private key"
	}
	for _, c := range contents {
		for _, word := range c.words {
			if occurs(b, []byte(word), c.re) {
				return c.why
			}
		}
	}
	return ""
}

// How much an expression sees before and behind its word, in bytes.
const (
	before = 256
	behind = 1024
)

// occurs says whether an expression matches where a word is.
func occurs(b, word []byte, re *regexp.Regexp) bool {
	for from := 0; ; {
		at := bytes.Index(b[from:], word)
		if at < 0 {
			return false
		}
		at += from
		line := max(at-before, 0)
		line += bytes.LastIndexByte(b[line:at], '\n') + 1
		if re.Match(b[line:min(at+len(word)+behind, len(b))]) {
			return true
		}
		from = at + len(word)
	}
}

// derKey says whether all of b is a private key in DER (RFC 5208, 8017, 5915).
func derKey(b []byte) bool {
	if len(b) < 32 || len(b) > 16<<10 || b[0] != 0x30 { // a sequence
		return false
	}
	_, pkcs8 := x509.ParsePKCS8PrivateKey(b)
	_, pkcs1 := x509.ParsePKCS1PrivateKey(b)
	_, ec := x509.ParseECPrivateKey(b)
	return pkcs8 == nil || pkcs1 == nil || ec == nil
}
