// SPDX-License-Identifier: Apache-2.0

package report

import (
	"context"
	"encoding/json"
	"html"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/results"
)

// browser returns the headless browser of the machine, and skips the test without one.
func browser(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("no Chromium here: what the explorer's script does is not tested")
	return ""
}

// browse loads a page, lets a script of the test use it, and returns what the script
// notes with note(name, value).
func browse(t *testing.T, page []byte, script string) map[string]string {
	t.Helper()
	const frame = `<script>
const noted = {}, note = (name, value) => { noted[name] = String(value); };
const by = id => document.getElementById("explore-" + id);
const set = (id, value) => { by(id).value = value; by(id).dispatchEvent(new Event("change")); };
const check = (id, on) => { by(id).checked = on; by(id).dispatchEvent(new Event("change")); };
const press = (key, more) => by("figure").dispatchEvent(new KeyboardEvent("keydown", {key, cancelable: true, ...more}));
const all = css => [...by("figure").querySelectorAll(css)];
const texts = css => all(css).map(e => e.textContent).join("|");
const point = (type, x, y) => {
  const box = by("figure").getBoundingClientRect();
  by("figure").dispatchEvent(new PointerEvent(type, {clientX: box.left + x / 720 * box.width, clientY: box.top + y / 420 * box.height, button: 0, pointerType: "mouse"}));
};
try { SCRIPT } catch (e) { note("error", e.stack); }
document.body.append(Object.assign(document.createElement("pre"), {id: "noted", textContent: JSON.stringify(noted)}));
</script></body>`
	dir := t.TempDir()
	file := filepath.Join(dir, "page.html")
	text := strings.Replace(string(page), "</body>", strings.Replace(frame, "SCRIPT", script, 1), 1)
	require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, browser(t), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
		"--user-data-dir="+filepath.Join(dir, "profile"), "--window-size=1100,900", "--dump-dom", "file://"+file)
	out, err := cmd.Output()
	require.NoError(t, err)
	found := regexp.MustCompile(`(?s)<pre id="noted">(.*?)</pre>`).FindSubmatch(out)
	require.NotNil(t, found, "the page's scripts did not get to their end")
	noted := map[string]string{}
	require.NoError(t, json.Unmarshal([]byte(html.UnescapeString(string(found[1]))), &noted))
	require.Empty(t, noted["error"])
	return noted
}

// screenshots leaves pictures of the page and of the explorer alone, light and dark, wide and
// narrow, for looking at.
func screenshots(t *testing.T, chromium string, page []byte) {
	t.Helper()
	alone := strings.Replace(string(page), "</head>", "<style>main > :not(#explore) { display: none; }</style></head>", 1)
	for _, shown := range []struct{ name, page, height string }{{"page", string(page), "7500"}, {"explorer", alone, "1100"}} {
		file := filepath.Join(*keep, shown.name+".html")
		require.NoError(t, os.WriteFile(file, []byte(shown.page), 0o644))
		for look, flags := range map[string][]string{
			"light-wide": {"--window-size=1100," + shown.height}, "light-narrow": {"--window-size=500," + shown.height},
			"dark-wide": {"--window-size=1100," + shown.height, "--force-dark-mode", "--blink-settings=preferredColorScheme=0"},
		} {
			flags = append(flags, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--user-data-dir="+t.TempDir(),
				"--screenshot="+filepath.Join(*keep, shown.name+"-"+look+".png"), "file://"+file)
			require.NoError(t, exec.CommandContext(t.Context(), chromium, flags...).Run())
		}
	}
}

// TestExplorerInABrowser has what a reader does change what is shown.
func TestExplorerInABrowser(t *testing.T) {
	chromium := browser(t)
	page, err := Comparison([]*results.Run{chunkRun(t, "one", "X", 1), chunkRun(t, "two", "X", 1.2)}, results.NsPerOp)
	require.NoError(t, err)
	if *keep != "" {
		screenshots(t, chromium, page)
	}
	noted := browse(t, page, `
		note("hidden", document.getElementById("explore").hidden);
		note("x", by("x").value + " " + texts(".x-tick"));
		note("lines", by("line").value);
		note("start", all(".mark").length);
		note("joined", all("polyline").length);

		set("filter-variant", "*");
		note("unfiltered", all(".mark").length);
		note("mixed", by("note").textContent);
		set("filter-variant", "nvram");
		note("filtered", all(".mark").length);
		note("rows", by("table").querySelectorAll("tbody tr").length);

		set("x", "variant"); set("filter-chunk", "4096");
		note("axis", texts(".x-label") + " " + texts(".x-tick"));
		set("x", "round");
		note("rounds", all(".mark").length);
		set("x", "chunk"); set("filter-variant", "inline");
		const ticks = texts(".y-tick");
		check("log-y", true);
		note("logarithmic", ticks !== texts(".y-tick"));
		check("log-y", false);

		const before = all(".mark")[0].getBoundingClientRect().x, range = texts(".y-tick");
		by("in").click();
		note("zoomed", range !== texts(".y-tick"));
		by("reset").click();
		note("reset", range === texts(".y-tick") && before === all(".mark")[0].getBoundingClientRect().x);
		point("pointerdown", 300, 60); point("pointermove", 500, 200);
		note("dragging", all(".drag").length);
		point("pointerup", 500, 200);
		note("dragged", range !== texts(".y-tick") && all(".drag").length === 0);
		press("0");
		note("keys", range === texts(".y-tick"));
		press("+");
		note("plus", range !== texts(".y-tick"));
		press("Escape");

		const mark = all("circle.mark")[0];
		note("before", by("readout").textContent);
		point("pointermove", +mark.getAttribute("cx") + 3, +mark.getAttribute("cy") + 3);
		note("hover", by("readout").textContent);
		note("picked", all(".picked").length);
		press("ArrowRight");
		note("next", by("readout").textContent);

		set("kind", "modelled");
		note("modelled", by("figure").getAttribute("aria-label"));
		set("kind", "measured");
	`)
	require.Equal(t, "false", noted["hidden"])
	require.Equal(t, "chunk 4 KiB|16 KiB|64 KiB", noted["x"])
	require.Equal(t, "run", noted["lines"])
	require.Equal(t, "6", noted["start"], "two runs at three chunk sizes")
	require.Equal(t, "2", noted["joined"])
	require.Equal(t, "18", noted["unfiltered"])
	require.Contains(t, noted["mixed"], "variant")
	require.Equal(t, "6", noted["filtered"])
	require.Equal(t, "6", noted["rows"])
	require.Equal(t, "variant raw|inline|nvram", noted["axis"])
	require.Equal(t, "36", noted["rounds"], "six rounds of three variants of two runs")
	for _, name := range []string{"logarithmic", "zoomed", "reset", "dragged", "keys", "plus"} {
		require.Equal(t, "true", noted[name], name)
	}
	require.Equal(t, "1", noted["dragging"])
	require.Contains(t, noted["before"], "arrow keys")
	require.Regexp(t, `^20(\.\d+)? µs \(ns/op\) E2/op=firstwrite/variant=inline/chunk=4096/qd=32, run one · 6 samples: `, noted["hover"])
	require.Equal(t, "1", noted["picked"])
	require.Contains(t, noted["next"], "variant=inline")
	require.NotEqual(t, noted["hover"], noted["next"])
	require.Contains(t, noted["modelled"], "modelled")
}
