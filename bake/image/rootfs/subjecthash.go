package rootfs

import (
	"bytes"
	"crypto/sha1"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf16"
	"unicode/utf8"
)

// subjectHash is what `openssl x509 -subject_hash` prints: the first four
// bytes, little-endian, of the SHA-1 of the subject in canonical form (OpenSSL,
// crypto/x509/x_name.c, x509_name_canon).
func subjectHash(certificate []byte) (uint32, error) {
	cert, err := x509.ParseCertificate(certificate)
	var subject []byte
	if err == nil {
		subject = cert.RawSubject
	} else if subject, err = rawSubject(certificate); err != nil {
		return 0, err
	}
	canonical, err := canonicalName(subject)
	if err != nil {
		return 0, fmt.Errorf("subject: %w", err)
	}
	sum := sha1.Sum(canonical)
	return binary.LittleEndian.Uint32(sum[:4]), nil
}

// rawSubject finds the subject of a certificate that crypto/x509 refuses, for
// a negative serial number, say, which old roots have.
func rawSubject(certificate []byte) ([]byte, error) {
	var cert struct {
		TBS struct {
			Version      int `asn1:"optional,explicit,default:0,tag:0"`
			SerialNumber asn1.RawValue
			Signature    asn1.RawValue
			Issuer       asn1.RawValue
			Validity     asn1.RawValue
			Subject      asn1.RawValue
			Rest         []asn1.RawValue `asn1:"optional"`
		}
		Rest []asn1.RawValue `asn1:"optional"`
	}
	if _, err := asn1.Unmarshal(certificate, &cert); err != nil {
		return nil, fmt.Errorf("parsing certificate: %w", err)
	}
	return cert.TBS.Subject.FullBytes, nil
}

// attribute is an AttributeTypeAndValue (RFC 5280, section 4.1.2.4).
type attribute struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

// canonicalName returns the contents of the name's SEQUENCE, where each
// attribute's text is UTF-8, in lower case, with single blanks, and none at
// its ends. Other types of value stand as they are.
func canonicalName(name []byte) ([]byte, error) {
	var sets []asn1.RawValue
	if rest, err := asn1.Unmarshal(name, &sets); err != nil || len(rest) > 0 {
		return nil, errors.New("not a sequence of names")
	}
	var out []byte
	for _, set := range sets {
		var attributes []attribute
		if rest, err := asn1.UnmarshalWithParams(set.FullBytes, &attributes, "set"); err != nil || len(rest) > 0 {
			return nil, errors.New("not a set of attributes")
		}
		for i := range attributes {
			text, ok, err := decodeText(attributes[i].Value)
			if err != nil {
				return nil, err
			}
			if ok {
				attributes[i].Value = asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: canonicalText(text)}
			}
		}
		// Sets of DER are sorted, which asn1 does.
		encoded, err := asn1.MarshalWithParams(attributes, "set")
		if err != nil {
			return nil, err
		}
		out = append(out, encoded...)
	}
	return out, nil
}

// Types of text that package asn1 has no names for (X.680, section 8.4).
const (
	tagVisibleString   = 26
	tagUniversalString = 28
)

// decodeText returns a value as UTF-8, or false where it is not text.
func decodeText(v asn1.RawValue) ([]byte, bool, error) {
	switch v.Tag {
	case asn1.TagUTF8String:
		return v.Bytes, true, nil
	case asn1.TagPrintableString, asn1.TagIA5String, asn1.TagT61String, tagVisibleString:
		// Bytes are Latin-1.
		var out []byte
		for _, b := range v.Bytes {
			out = utf8.AppendRune(out, rune(b))
		}
		return out, true, nil
	case asn1.TagBMPString:
		if len(v.Bytes)%2 != 0 {
			return nil, false, errors.New("BMPString of odd length")
		}
		var units []uint16
		for i := 0; i < len(v.Bytes); i += 2 {
			units = append(units, binary.BigEndian.Uint16(v.Bytes[i:]))
		}
		return []byte(string(utf16.Decode(units))), true, nil
	case tagUniversalString:
		if len(v.Bytes)%4 != 0 {
			return nil, false, errors.New("UniversalString whose length is no multiple of 4")
		}
		var out []byte
		for i := 0; i < len(v.Bytes); i += 4 {
			out = utf8.AppendRune(out, rune(binary.BigEndian.Uint32(v.Bytes[i:])))
		}
		return out, true, nil
	}
	return nil, false, nil
}

// canonicalText lowers ASCII letters and joins blanks. OpenSSL leaves all else.
func canonicalText(text []byte) []byte {
	const blanks = " \t\n\v\f\r"
	text = bytes.Trim(text, blanks)
	var out []byte
	for i := 0; i < len(text); i++ {
		b := text[i]
		switch {
		case bytes.IndexByte([]byte(blanks), b) >= 0:
			if bytes.IndexByte([]byte(blanks), text[i-1]) < 0 {
				out = append(out, ' ')
			}
		case 'A' <= b && b <= 'Z':
			out = append(out, b+'a'-'A')
		default:
			out = append(out, b)
		}
	}
	return out
}
