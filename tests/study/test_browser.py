"""The report in a real browser: no error, and nothing wider than the window."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium")
QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--enable-logging=stderr",
]
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")

# A page of the test's own shows the report in a frame of a given width: a window itself cannot be as narrow as a phone.
MEASURE = """<!DOCTYPE html><title>measure</title><body style="margin:0">{frames}<script>
window.onload = () => {{
  const found = [...document.querySelectorAll('iframe')].map(frame => {{
    const page = frame.contentDocument, root = page.documentElement;
    const images = [...page.images];
    return {{
      window: frame.clientWidth, content: root.scrollWidth,
      images: images.length, broken: images.filter(image => !image.naturalWidth).length,
      boxes: [...page.querySelectorAll('.box, .card, pre')].filter(
        box => box.getBoundingClientRect().right > frame.clientWidth + 1).length,
      text: page.body.innerText.length,
    }};
  }});
  document.title = JSON.stringify(found);
}};
</script>"""


def browse(page: Path, folder: Path) -> tuple[str, str]:
    """The page as the browser ends up with it, and what it logged."""
    arguments = [*QUIET, f"--user-data-dir={folder}", "--allow-file-access-from-files", "--virtual-time-budget=5000"]
    done = subprocess.run(
        [CHROMIUM, *arguments, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout, done.stderr


def test_the_report_opens_without_errors_at_desktop_and_phone_width(reported, tmp_path):
    widths = (1280, 390)
    source = (reported / "report.html").as_uri()
    frames = [f'<iframe src="{source}" style="width:{width}px;height:800px;border:0"></iframe>' for width in widths]
    page = tmp_path / "measure.html"
    page.write_text(MEASURE.format(frames="".join(frames)))
    shown, log = browse(page, tmp_path / "profile")
    assert "CONSOLE" not in log, log
    found = json.loads(re.search("<title>(.*?)</title>", shown)[1].replace("&quot;", '"'))
    assert [item["window"] for item in found] == list(widths)
    for item in found:
        assert item["content"] <= item["window"], "the page scrolls sideways"
        assert (item["boxes"], item["broken"], item["images"]) == (0, 0, 11)
        assert item["text"] > 3000


def test_an_error_in_a_page_would_be_seen(tmp_path):
    page = tmp_path / "broken.html"
    page.write_text("<!DOCTYPE html><script>console.error('broken')</script>")
    assert "CONSOLE" in browse(page, tmp_path / "profile")[1]
