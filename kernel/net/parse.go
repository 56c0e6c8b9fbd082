package net

import (
	"errors"
	"strconv"
	"strings"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// Parse takes addresses, ADDRESS/BITS, and the gateways of default routes.
func (c *Config) Parse(addresses, gateways []string) error {
	for _, s := range addresses {
		p, err := parsePrefix(s)
		if err != nil {
			return err
		}
		c.Addresses = append(c.Addresses, p)
	}
	for _, s := range gateways {
		a, ok := parseIP(s)
		if !ok {
			return errors.New("network: gateway " + strconv.Quote(s) + " is no address")
		}
		c.Gateways = append(c.Gateways, a)
	}
	return nil
}

// parsePrefix reads ADDRESS/BITS.
func parsePrefix(s string) (Prefix, error) {
	text, bits, _ := strings.Cut(s, "/")
	a, ok := parseIP(text)
	n, err := strconv.ParseUint(bits, 10, 8)
	if !ok || err != nil || int(n) > a.BitLen() {
		return Prefix{}, errors.New("network: " + strconv.Quote(s) + " is no ADDRESS/BITS")
	}
	return Prefix{a, int(n)}, nil
}

// parseIP reads an address as inet_pton(3) does.
func parseIP(s string) (tcpip.Address, bool) {
	if !strings.Contains(s, ":") {
		b, ok := parseIPv4(s)
		return tcpip.AddrFrom4(b), ok
	}
	return parseIPv6(s)
}

func parseIPv4(s string) (b [header.IPv4AddressSize]byte, ok bool) {
	parts := strings.Split(s, ".")
	if len(parts) != len(b) {
		return b, false
	}
	for i, p := range parts {
		v, err := strconv.ParseUint(p, 10, 8)
		if err != nil || len(p) > 1 && p[0] == '0' {
			return b, false
		}
		b[i] = byte(v)
	}
	return b, true
}

func parseIPv6(s string) (tcpip.Address, bool) {
	head, tail, gap := strings.Cut(s, "::")
	front, ok1 := parseGroups(head)
	back, ok2 := parseGroups(tail)
	var b [header.IPv6AddressSize]byte
	n := len(front) + len(back)
	if !ok1 || !ok2 || n > len(b) || gap == (n == len(b)) || !gap && n != len(b) {
		return tcpip.Address{}, false
	}
	copy(b[:], front)
	copy(b[len(b)-len(back):], back)
	return tcpip.AddrFrom16(b), true
}

// parseGroups reads groups of four hexadecimal digits, the last of which may be an IPv4 address.
func parseGroups(s string) (b []byte, ok bool) {
	if s == "" {
		return nil, true
	}
	groups := strings.Split(s, ":")
	for i, g := range groups {
		if i == len(groups)-1 && strings.Contains(g, ".") {
			v4, ok := parseIPv4(g)
			return append(b, v4[:]...), ok
		}
		v, err := strconv.ParseUint(g, 16, 16)
		if err != nil || len(g) > 4 {
			return nil, false
		}
		b = append(b, byte(v>>8), byte(v))
	}
	return b, true
}
