package main

import "strings"

// lostMirror is a mirror that cannot be asked, by its URL as written; an empty one stands for the registry's own settings.
type lostMirror struct {
	mirror, unknown string
}

func (l lostMirror) what() string {
	if l.mirror == "" {
		return "its settings"
	}
	return "the mirror `" + l.mirror + "`"
}

// table is a part of a hosts.toml: the lines from the head of a table to the next one.
type table struct {
	// The URL of the mirror that it is of; empty for what is of none.
	mirror string
	text   string
}

// fillHosts puts facts into a hosts.toml. A mirror of which something is not known is left out with all of its tables; the others stay
// in their order.
func fillHosts(text string, facts *strings.Replacer) (string, []lostMirror) {
	tables := splitTables(text)
	var lost []lostMirror
	left := map[string]bool{}
	for _, table := range tables {
		if unknown := firstUnknown(facts.Replace(table.text)); unknown != "" && !left[table.mirror] {
			left[table.mirror] = true
			lost = append(lost, lostMirror{table.mirror, unknown})
		}
	}
	var filled strings.Builder
	for _, table := range tables {
		if !left[table.mirror] {
			filled.WriteString(facts.Replace(table.text))
		}
	}
	return filled.String(), lost
}

// splitTables parts a hosts.toml (containerd, docs/hosts.md) at the heads of its tables.
func splitTables(text string) []table {
	tables := []table{{}}
	for _, line := range strings.SplitAfter(text, "\n") {
		if head, found := headOf(line); found {
			tables = append(tables, table{mirror: mirrorOf(head)})
		}
		tables[len(tables)-1].text += line
	}
	return tables
}

// headOf gives what follows the bracket of a table's head. A line of a list that begins with one has a quote or another one next.
func headOf(line string) (string, bool) {
	rest, found := strings.CutPrefix(strings.TrimSpace(line), "[")
	rest = strings.TrimSpace(rest)
	return rest, found && rest != "" && (rest[0]|0x20) >= 'a' && (rest[0]|0x20) <= 'z'
}

// mirrorOf gives the URL of `host."URL"` and of `host."URL".header`, and nothing for another table.
func mirrorOf(head string) string {
	rest, found := strings.CutPrefix(head, "host")
	rest = strings.TrimLeft(rest, " \t.")
	if !found || rest == "" || !strings.Contains("\"'", rest[:1]) {
		return ""
	}
	url, _, _ := strings.Cut(rest[1:], rest[:1])
	return url
}

// firstUnknown is the first ${...} outside of lines that are comments.
func firstUnknown(text string) string {
	for _, line := range strings.Split(text, "\n") {
		_, rest, found := strings.Cut(line, "${")
		if found && !strings.HasPrefix(strings.TrimSpace(line), "#") {
			name, _, _ := strings.Cut(rest, "}")
			return "${" + name + "}"
		}
	}
	return ""
}

// mirrorsOf lists the mirrors of a filled hosts.toml, for people.
func mirrorsOf(filled string) string {
	var urls []string
	for _, table := range splitTables(filled) {
		quoted := "`" + table.mirror + "`"
		if table.mirror != "" && (len(urls) == 0 || urls[len(urls)-1] != quoted) {
			urls = append(urls, quoted)
		}
	}
	if len(urls) == 0 {
		return "none"
	}
	return strings.Join(urls, ", ")
}
