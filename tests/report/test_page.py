"""The report: its words and numbers for good and bad fits, and that it is one complete file."""

from __future__ import annotations

import dataclasses
import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import pytest

import infimum
from infimum.cli import demos
from infimum.report import page as report
from infimum.solvers._solver import Reason

EMPTY = {"meta", "input", "br"}
"""HTML elements without an end tag."""

SECTIONS = (
    "Key numbers",
    "q against the posterior",
    "The worst quantities, one by one",
    "Progress of the fit",
    "Importance weights",
    "Data and predictions",
    "All quantities",
    "How to reproduce this fit",
)


class Page(HTMLParser):
    """The parts of a page; every element must be closed, in the right order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [v or "" for k, v in attributes if k in ("href", "src", "xlink:href")]
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] == ["script"]:
            self.scripts.append(data)
        elif self.open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def said(self) -> str:
        """The visible text, with single spaces."""
        return " ".join(" ".join(self.words).split())


def normals(d, name="normals"):
    """Independent normals, which the mean-field family contains."""
    rng = np.random.default_rng(0)
    mean, sd = 3 * rng.standard_normal(d), np.exp(0.5 * rng.standard_normal(d))
    return infimum.Target(
        lambda z: 1.0 - 0.5 * jnp.sum(((z - mean) / sd) ** 2), np.zeros(d), name=name
    )


def read(fit, tmp_path):
    """The report's text, and the page that a reader sees."""
    text = fit.report(tmp_path / "fit.html").read_text(encoding="utf-8")
    page = Page(text)
    assert all(link.startswith("#") for link in page.links), "nothing from outside"
    assert not re.search(r"url\((?!#)|@import|https?://(?!www\.w3\.org)", text)
    return text, page


@pytest.fixture(scope="module")
def good():
    return infimum.fit(normals(3), "meanfield", starts=1)


@pytest.fixture(scope="module")
def good_page(good):
    return report.page(good)


@pytest.fixture(scope="module")
def schools():
    """Mean-field eight schools, whose verdict is "reweight"."""
    return infimum.climb(demos.named("eight_schools").target(), ["meanfield"], starts=1)


@pytest.fixture(scope="module")
def cauchy():
    target = infimum.Target(lambda z: -jnp.sum(jnp.log1p(z**2)), np.zeros(5))
    return infimum.fit(target, "meanfield", starts=1)


@pytest.fixture
def brief(monkeypatch):
    """Few plots, for tests that look at other parts."""
    monkeypatch.setattr(report, "MOST_MARGINALS", 2)
    monkeypatch.setattr(report, "PAIR_QUANTITIES", 1)


def test_a_good_fit_begins_with_words(good, tmp_path):
    text, page = read(good, tmp_path)
    said = page.said
    places = [said.index(section) for section in SECTIONS]
    assert places == sorted(places)
    assert said.index("good") < said.index(good.advice) < places[0]
    assert "q can replace the posterior" in said
    assert str(good.elbo) in said
    assert good.reason.value in said
    assert "plain log density" in said
    assert f"jax {__import__('jax').__version__}" in said
    assert "fit.sample(1000)" in said
    assert page.tags.count("svg") == 1 + 3 + 2
    assert "No plot" not in text


@pytest.mark.usefixtures("brief")
def test_fits_that_are_off_say_what_to_do(schools, cauchy, tmp_path):
    fit = schools.fits[0]
    assert (fit.verdict, cauchy.verdict) == ("reweight", "unreliable")
    _, page = read(fit, tmp_path)
    assert fit.advice in page.said
    assert "fit.sample(1000, weighted=True)" in page.said
    assert "observations within their 90% interval" in page.said
    assert "effect: observed data, and 400 datasets" in page.said
    assert "No plot" not in page.said
    _, page = read(cauchy, tmp_path)
    assert "Do not rely on any number on this page" in page.said
    assert "from q, not from the posterior" in page.said


@pytest.mark.usefixtures("brief")
def test_an_interrupted_fit_says_so(good, tmp_path):
    assessment = dataclasses.replace(good.assessment, reason=Reason.INTERRUPTED)
    _, page = read(dataclasses.replace(good, assessment=assessment, trace=()), tmp_path)
    assert "The fit was interrupted before it was finished" in page.said
    assert "no trace of the ELBO is known" in page.said


@pytest.mark.usefixtures("brief")
def test_what_is_undefined_is_no_picture_and_no_number(good, tmp_path):
    log_p = np.where(np.arange(len(good.log_p)) == 3, np.nan, good.log_p)
    weighed = dataclasses.replace(good.weighed, log_p=log_p)
    assessment = dataclasses.replace(good.assessment, draws=weighed)
    text, page = read(dataclasses.replace(good, assessment=assessment, target=None), tmp_path)
    assert "the weights are not known" in page.said
    assert "NaN" not in json.dumps(json.loads(page.scripts[0]))
    assert "errors of q unknown" in text


@pytest.mark.usefixtures("brief")
def test_a_climb_has_its_ladder(schools, tmp_path):
    climb = infimum.Climb(schools.fits, (("sparse", "it is <too> large"),), "the last was tried")
    _, page = read(climb, tmp_path)
    assert "sparse was skipped: it is <too> large." in page.said
    assert "The climb ended: the last was tried." in page.said
    for fit in schools.fits:
        assert str(fit.kl) in page.said
    assert page.said.index("Key numbers") < page.said.index("The ladder of families")


@pytest.mark.usefixtures("brief")
def test_a_loaded_fit_has_its_report(schools, tmp_path):
    loaded = infimum.load(schools.fits[0].save(tmp_path / "fit.zip"))
    _, page = read(loaded, tmp_path)
    assert "A saved fit contains neither data nor code" in page.said
    assert schools.fits[0].advice in page.said


def test_the_same_fit_gives_the_same_bytes_whatever_matplotlib_is_set_to(good, good_page):
    with mpl.rc_context({"font.size": 30.0, "axes.facecolor": "red", "svg.fonttype": "path"}):
        before = dict(mpl.rcParams)
        assert report.page(good) == good_page
        assert dict(mpl.rcParams) == before


@pytest.mark.usefixtures("brief")
def test_names_are_text_wherever_they_stand(tmp_path):
    names = ["</script><script>alert(1)</script>", "<b>&amp;\"'", "$x_{$", "数"]
    target = infimum.Target(
        lambda p: -0.5 * sum(x**2 for x in p.values()), dict.fromkeys(names, 0.0), name="<i>&"
    )
    text, page = read(infimum.fit(target, "meanfield", starts=1), tmp_path)
    assert "alert" not in "".join(page.scripts[1:])
    assert page.tags.count("script") == 2
    assert not {"b>", "i>"} & set(re.findall(r"<(\w>)(?=&amp;)", text))
    assert sorted(row[0] for row in json.loads(page.scripts[0])) == sorted(names)
    assert "No plot" not in text


@pytest.mark.parametrize(("d", "most"), [(300, 3e6), (10_000, 10e6)])
def test_many_quantities_fit_into_a_small_file(d, most, tmp_path):
    fit = infimum.fit(normals(d), "meanfield", starts=1, draws=500)
    text, page = read(fit, tmp_path)
    assert len(text.encode()) < most
    rows = json.loads(page.scripts[0])
    assert len(rows) == d
    assert f"The worst 200 of {d:,}" in page.said
    cells = [data for data in page.words if re.fullmatch(r"z\[\d+\]", data)]
    assert len(cells) >= report.TABLE_ROWS
    error = fit.summary()[["mean_error", "sd_error"]].abs().max(axis=1)
    order = [report.VERDICTS.index(verdict) for verdict in fit.verdicts]
    assert rows[0][0] == error[np.equal(order, min(order))].idxmax()


def test_numbers_keep_the_digits_that_mean_something():
    assert report._rounded(123456.789, report._decimals(0.012)) == 123456.789
    assert report._rounded(123456.789, report._decimals(5000.0)) == 123460
    assert report._rounded(np.nan, 2) is None


@pytest.mark.parametrize(("width", "theme"), [(375, "dark"), (375, "light"), (1280, "dark")])
def test_a_browser_sorts_searches_and_has_nothing_to_complain_of(good_page, tmp_path, width, theme):
    """At the width of a phone and of a desktop nothing overflows, and all text is legible."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium here: the page's script is not run")
    probe = """<script>
    const box = document.getElementById("search");
    box.value = "Z[1"; box.dispatchEvent(new Event("input"));
    const matches = document.querySelectorAll("#table tbody tr").length;
    box.value = ""; box.dispatchEvent(new Event("input"));
    document.querySelectorAll("#table th button")[2].click();
    const means = [...document.querySelectorAll("#table tbody tr")].map(
      r => Number(r.cells[2].textContent.replace("−", "-")));
    const frame = document.documentElement;
    const light = colour => {
      const rgb = colour.match(/[\\d.]+/g).slice(0, 3).map(x => x / 255);
      const linear = rgb.map(x => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
      return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
    };
    const ground = element => {
      const colour = getComputedStyle(element).backgroundColor;
      if (!/, 0\\)$/.test(colour)) return colour;
      return element.parentElement ? ground(element.parentElement) : "rgb(255, 255, 255)";
    };
    const contrast = [...document.querySelectorAll("h1, h2, p, td, th button, summary")].map(x => {
      const pair = [light(getComputedStyle(x).color), light(ground(x))].sort((a, b) => b - a);
      return (pair[0] + 0.05) / (pair[1] + 0.05);
    });
    const dark = light(ground(document.body)) < 0.2;
    parent.document.title = JSON.stringify(
      [matches, means, frame.scrollWidth - frame.clientWidth, dark, Math.min(...contrast)]);
    </script></body>"""
    inner = html.escape(good_page.replace("</body>", probe))
    page = tmp_path / "frame.html"
    frame = f'<iframe width="{width}" height="900" srcdoc="{inner}"></iframe>'
    page.write_text(f"<!doctype html><title></title>{frame}", encoding="utf-8")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1400,1000"]
    command += [f"--blink-settings=preferredColorScheme={int(theme == 'light')}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    measured = re.search(r"<title>(.*?)</title>", done.stdout)
    matches, means, beyond, dark, contrast = json.loads(measured[1])
    assert (matches, beyond, dark) == (1, 0, theme == "dark")
    assert means == sorted(means)
    assert len(means) == 3
    assert contrast >= 4.5, contrast
