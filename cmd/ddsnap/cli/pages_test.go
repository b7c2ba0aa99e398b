// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/cpuguy83/go-md2man/v2/md2man"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
)

var rewrite = flag.Bool("rewrite", false, "write the manual pages and completions anew")

// Where generated files are, from here.
const (
	manDir        = "../../../docs/man"
	completionDir = "../../../packaging/completion"
)

// manDate is on every page: pages of one source are the same whenever they are
// made.
const manDate = "2026-11-22"

// TestManPages holds the manual pages to the commands; -rewrite makes them.
func TestManPages(t *testing.T) {
	pages := map[string][]byte{}
	for _, c := range commands() {
		name := strings.ReplaceAll(c.CommandPath(), " ", "-")
		pages[name+".1"] = md2man.Render(manPage(name, c))
	}
	checkGenerated(t, manDir, pages)
}

// TestCompletions holds the shells' completions to the library that makes them.
func TestCompletions(t *testing.T) {
	root := (&app{}).root()
	files := map[string][]byte{}
	for name, generate := range map[string]func(io.Writer) error{
		"ddsnap.bash": func(w io.Writer) error { return root.GenBashCompletionV2(w, true) },
		"_ddsnap":     root.GenZshCompletion,
		"ddsnap.fish": func(w io.Writer) error { return root.GenFishCompletion(w, true) },
	} {
		var b bytes.Buffer
		require.NoError(t, generate(&b))
		files[name] = b.Bytes()
	}
	checkGenerated(t, completionDir, files)
}

// checkGenerated compares a directory with what is to be in it.
func checkGenerated(t *testing.T, dir string, want map[string][]byte) {
	if *rewrite {
		require.NoError(t, os.RemoveAll(dir))
		require.NoError(t, os.MkdirAll(dir, 0o755))
		for name, text := range want {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), text, 0o644))
		}
	}
	found, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, f := range found {
		require.Contains(t, want, f.Name(), "no command has this file: run \"make generate\"")
	}
	for name, text := range want {
		got, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err, "run \"make generate\"")
		require.Equal(t, string(text), string(got), "%s is out of date: run \"make generate\"", name)
	}
}

// TestShellsParse gives each completion to the shell that it is for.
func TestShellsParse(t *testing.T) {
	for _, c := range [][2]string{{"bash", "ddsnap.bash"}, {"zsh", "_ddsnap"}, {"fish", "ddsnap.fish"}} {
		t.Run(c[0], func(t *testing.T) {
			if _, err := exec.LookPath(c[0]); err != nil {
				t.Skip(c[0] + " is not installed")
			}
			out, err := exec.Command(c[0], "-n", filepath.Join(completionDir, c[1])).CombinedOutput()
			require.NoError(t, err, "%s", out)
		})
	}
}

// TestHelp holds every command to the form that help and manual pages need.
func TestHelp(t *testing.T) {
	for _, c := range commands() {
		t.Run(c.CommandPath(), func(t *testing.T) {
			require.NotEmpty(t, c.Short)
			require.NotEmpty(t, c.Long)
			require.NotContains(t, c.Short, ".")
			if !c.HasSubCommands() {
				require.Contains(t, c.Example, c.CommandPath()+" ", "an example")
			}
			args := strings.Fields(c.CommandPath())[1:]
			var out bytes.Buffer
			require.Equal(t, exitDone, Run(append(args, "--help"), Streams{In: os.Stdin, Out: &out, Err: &out}))
			for line := range strings.Lines(out.String()) {
				require.LessOrEqual(t, utf8.RuneCountInString(line), 101, "fits a line: %s", line)
			}
		})
	}
}

// commands returns ddsnap and all its verbs.
func commands() []*cobra.Command {
	var list []*cobra.Command
	var add func(c *cobra.Command)
	add = func(c *cobra.Command) {
		list = append(list, c)
		for _, sub := range c.Commands() {
			if !sub.IsAdditionalHelpTopicCommand() {
				add(sub)
			}
		}
	}
	add((&app{}).root())
	return list
}

// manPage returns a command's manual page as markdown. Package cobra/doc makes
// pages too, but shows each switch with a value.
func manPage(name string, c *cobra.Command) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%% \"%s\" \"1\" \"%s\" \"Zumastor\" \"Zumastor\"\n", strings.ToUpper(name), manDate)
	fmt.Fprintf(&b, "# NAME\n%s \\- %s\n\n", name, strings.ToLower(c.Short[:1])+c.Short[1:])
	use := c.UseLine()
	if c.HasSubCommands() {
		use = c.CommandPath() + " COMMAND"
	}
	fmt.Fprintf(&b, "# SYNOPSIS\n**%s**\n\n# DESCRIPTION\n%s\n\n", use, c.Long)
	c.InitDefaultHelpFlag()
	if !c.HasSubCommands() {
		b.WriteString("# OPTIONS\n")
		c.NonInheritedFlags().VisitAll(func(f *pflag.Flag) { manOption(&b, f) })
	} else {
		b.WriteString("# COMMANDS\n")
		for _, sub := range c.Commands() {
			if !sub.IsAdditionalHelpTopicCommand() {
				fmt.Fprintf(&b, "**%s-%s**(1)\n: %s\n\n", name, sub.Name(), sub.Short)
			}
		}
	}
	if c.HasParent() && !c.HasSubCommands() {
		b.WriteString("# EXIT STATUS\n")
		for code, meaning := range exitMeanings() {
			fmt.Fprintf(&b, "**%d**\n: %s\n\n", code, meaning)
		}
	}
	if c.Example != "" {
		fmt.Fprintf(&b, "# EXAMPLES\n```\n%s\n```\n", c.Example)
	}
	if c.HasParent() {
		fmt.Fprintf(&b, "# SEE ALSO\n**%s**(1)\n", strings.ReplaceAll(c.Parent().CommandPath(), " ", "-"))
	}
	return b.Bytes()
}

// manOption appends an entry of the list of options.
func manOption(b *bytes.Buffer, f *pflag.Flag) {
	if f.Hidden {
		return
	}
	value, usage := pflag.UnquoteUsage(f)
	if f.Shorthand != "" {
		fmt.Fprintf(b, "**-%s**, ", f.Shorthand)
	}
	fmt.Fprintf(b, "**--%s**", f.Name)
	if value != "" {
		fmt.Fprintf(b, " *%s*", value)
	}
	fmt.Fprintf(b, "\n: %s", usage)
	if d := f.DefValue; d != "" && d != "false" && d != "0" && d != "0s" {
		fmt.Fprintf(b, " (default %s)", d)
	}
	b.WriteString("\n\n")
}
