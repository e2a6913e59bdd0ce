package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
	"unicode"
)

const (
	postConnectTime = 10 * time.Second
	// Longer than the boot server waits for a certificate.
	postTime = 60 * time.Second
	// No answer is as large.
	postLimit = 256 << 10
	// Bytes of a refusal that are shown.
	postShown = 300
)

// post sends a document in JSON and returns what comes back with status 200. It is HTTP/1.0 (RFC 1945), where an answer ends with its
// connection: all of HTTP for one question would make the image a megabyte larger.
func post(url string, body []byte) ([]byte, error) {
	host, path := hostOf(url, "http://", "80")
	connection, err := net.DialTimeout("tcp", host, postConnectTime)
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	if err := connection.SetDeadline(time.Now().Add(postTime)); err != nil {
		return nil, err
	}
	head := "POST %s HTTP/1.0\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
	if _, err := fmt.Fprintf(connection, head+"%s", path, host, len(body), body); err != nil {
		return nil, fmt.Errorf("`%s` cannot be asked: %w", url, err)
	}
	status, text, err := readAnswer(io.LimitReader(connection, postLimit))
	if err != nil {
		return nil, fmt.Errorf("`%s` does not answer: %w", url, err)
	}
	if status != 200 {
		return nil, fmt.Errorf("`%s` refuses (%d): %s", url, status, shown(text))
	}
	return text, nil
}

// readAnswer returns status and body.
func readAnswer(from io.Reader) (int, []byte, error) {
	reader := bufio.NewReader(from)
	status := 0
	for number := 0; ; number++ {
		line, err := reader.ReadString('\n')
		if err != nil {
			return 0, nil, err
		}
		line = strings.TrimRight(line, "\r\n")
		if number == 0 {
			fields := strings.Fields(line)
			if len(fields) < 2 || !strings.HasPrefix(fields[0], "HTTP/1.") {
				return 0, nil, fmt.Errorf("`%s` is no HTTP", shown([]byte(line)))
			}
			if status, err = strconv.Atoi(fields[1]); err != nil {
				return 0, nil, err
			}
		}
		if line == "" {
			break
		}
	}
	text, err := io.ReadAll(reader)
	return status, text, err
}

// hostOf splits an address into host with port, and path.
func hostOf(url, scheme, port string) (string, string) {
	host, path, _ := strings.Cut(strings.TrimPrefix(url, scheme), "/")
	if _, _, err := net.SplitHostPort(host); err != nil {
		host = net.JoinHostPort(strings.Trim(host, "[]"), port)
	}
	return host, "/" + path
}

// shown is the beginning of a text without what steers a terminal.
func shown(text []byte) string {
	plain := strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(string(text[:min(len(text), postShown)]), ""))
	return strings.TrimSpace(plain)
}
