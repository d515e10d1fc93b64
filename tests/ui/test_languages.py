"""The page in the languages that there are files for: labels, buttons, empty panels and what is said of a run, and no text forgotten."""

import ast
import importlib
import json
import pickle
import re

import gradio as gr
import pytest
from gradio.i18n import I18nData
from playwright.sync_api import expect

from flux_demo import errors
from flux_demo.backends import Refusal
from flux_demo.backends.nvidia.errors import NIM
from flux_demo.engine.memory import CPU_PLAN
from flux_demo.engine.presets import PRESETS
from flux_demo.errors import FluxDemoError
from flux_demo.gallery import Gallery
from flux_demo.modes import MODES
from flux_demo.request import Size
from flux_demo.settings import Settings
from flux_demo.studio import Studio
from flux_demo.texts import Text, join_listed, join_sentences
from flux_demo.ui import build, examples, html, languages
from flux_demo.ui.size_field import RATIOS
from flux_demo.ui.translation import in_language, language_of, translate
from tests.conftest import RecordingBackend
from tests.starting import ROOT
from tests.test_recipe import RECIPE
from tests.ui.conftest import SMALL
from tests.ui.driving import give_photo, note_status, prompt_field, wait_for_status

FILES = sorted(languages.FOLDER.glob("*.json"))
PARTS = {path.stem: json.loads(path.read_text("utf-8")) for path in FILES}
BROWSERS = {language: words["browser"] for language, words in PARTS.items()}
WORDS = {language: words["browser"] | words["server"] for language, words in PARTS.items()}
SHAPES = ["quadratisch", "Querformat", "Hochformat", "Querformat", "Hochformat", "Querformat", "Hochformat"]
NOT_SHOWN = {"Query", "Run state", "Look again", "Check backends"}


@pytest.fixture(scope="module")
def blocks(studio, tmp_path_factory):
    """The components of a page with the mini, of one with NVIDIA's hosted service, and of one that lacks the filter and says nothing of steps."""

    class Unfiltered(RecordingBackend):
        def refusal(self, mode):
            return Refusal("The filter is not here. Fetch it.", fetch="filter")

    hosted = Settings(backend="hosted", nvidia_api_key="nvapi-x", outputs=str(tmp_path_factory.mktemp("hosted")))
    unfiltered = Studio(hosted, [Unfiltered("local"), RecordingBackend()], Gallery(hosted.outputs_folder))
    pages = [build(each) for each in (studio, Studio.from_settings(hosted), unfiltered)]
    return [block for page in pages for block in page.blocks.values() if block.get_block_name() not in ("api", "state", "browserstate")]


def texts(blocks):
    """What the browser is given to show: labels, help, placeholders, and what stands on buttons."""
    for block in blocks:
        for name in ("label", "info", "placeholder", *(["value"] if isinstance(block, gr.Button) else [])):
            if isinstance(text := getattr(block, name, None), str) and text:
                yield text


def alternatives(blocks):
    """What is told of images, in English: the page's own, and the example photos'."""
    photos = {name for for_mini in (True, False) for _, name in examples.photos(for_mini)}
    return photos | {text for block in blocks if (text := getattr(block, "alt_text", None))}


def choices(blocks):
    return {words for block in blocks if isinstance(block, gr.Radio | gr.Dropdown) for words, _ in block.choices}


def marks_in(markup):
    return re.findall(r"__i18n__\{.*?\}", markup or "")


def marked(words):
    return {str(I18nData(word)) for word in words}


def test_every_language_has_the_same_texts():
    assert {"de", "fr", "es", "ja", "zh-CN"} <= WORDS.keys()
    (keys,) = {tuple(sorted(words)) for words in WORDS.values()}
    assert len({tuple(sorted(words)) for words in BROWSERS.values()}) == 1
    assert all(words["browser"].keys().isdisjoint(words["server"]) for words in PARTS.values())
    assert all(word.strip() for words in WORDS.values() for word in words.values())
    assert len(keys) > 60


def test_no_text_of_the_page_is_forgotten(blocks, studio):
    prompts = {prompt for mode in MODES.values() for for_mini in (True, False) for prompt in examples.prompts(mode, for_mini)}
    names = {mode.title for mode in MODES.values()} | set(RATIOS.values())
    left = set(texts(blocks)) - marked(BROWSERS["de"]) - prompts - names - NOT_SHOWN
    left |= alternatives(blocks) - BROWSERS["de"].keys()
    left |= {mark for block in blocks if isinstance(block, gr.HTML) for mark in marks_in(block.value)} - marked(BROWSERS["de"])
    for words in (choices(blocks) | {words for words, _ in html.presets([*PRESETS])}) - BROWSERS["de"].keys():
        marks = marks_in(words)
        left |= set(marks) - marked(BROWSERS["de"])
        left |= {words} if re.search(r"[^\W\d_]", re.sub(r"__i18n__\{.*?\}", "", words)) else set()
    assert not left


def test_no_translation_is_of_a_text_that_is_gone(blocks):
    shown = set(texts(blocks)) | marked(choices(blocks) | set(languages.STYLED.values()))
    shown |= {mark for block in blocks if isinstance(block, gr.HTML) for mark in marks_in(block.value)}
    shown |= set(marks_in(html.details(RECIPE)))  # the server sends it with an image
    shown |= marked(alternatives(blocks) | {CPU_PLAN.sentence, NIM.name})
    shown |= {mark for words, _ in html.presets([*PRESETS]) for mark in marks_in(words)}
    shown |= marked({html.runs_on(title) for title in said_in_the_code()})  # whatever a backend's title is
    gone = marked(WORDS["de"].keys() - said_in_the_code()) - shown
    assert not gone


def said_in_the_code():
    """Every text that stands in the code as a whole, and not only in pieces."""
    trees = (ast.parse(path.read_text("utf-8")) for path in (ROOT / "flux_demo").rglob("*.py"))
    return {node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_what_is_said_can_be_translated():
    """Each text that is handed to ``translate`` or to what calls it is a whole one that the languages have; of errors, all are English."""
    untranslated = []
    for path in sorted((ROOT / "flux_demo/ui").glob("*.py")):
        module = importlib.import_module(f"flux_demo.ui.{path.stem}")
        for place in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(place, ast.Call) and isinstance(place.func, ast.Name | ast.Attribute) and place.args:
                name = place.func.id if isinstance(place.func, ast.Name) else place.func.attr
                # By the browser. Some texts are put together where they are marked: other tests find those on the page.
                looked_up = name in ("script_says", "heading", "explanation") or (
                    name == "I18nData" and isinstance(place.args[0], ast.Constant)
                )
                words = BROWSERS["de"] if looked_up else WORDS["de"]
                if looked_up or name in ("translate", "says", "image_head"):
                    untranslated += [f"{path.name}:{place.lineno} {text}" for text in texts_in(place.args[0], module) if text not in words]
    assert untranslated == []


def test_what_has_values_can_be_translated():
    """Each text with values, and each error that has them, wherever it is made: its pattern is a text that the languages have."""
    kinds = {"Text"} | {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.FluxDemoError)}
    patterns = {}
    for path in (ROOT / "flux_demo").rglob("*.py"):
        parts = list(ast.walk(ast.parse(path.read_text("utf-8"))))
        calls = [part for part in parts if isinstance(part, ast.Call) and isinstance(part.func, ast.Name) and part.func.id in kinds]
        given = [part.args[0] for part in calls if part.args and (part.keywords or part.func.id == "Text")]
        named = {each.id for each in given if isinstance(each, ast.Name)}  # as what was assigned just before
        given += [part.value for part in parts if isinstance(part, ast.Assign) and getattr(part.targets[0], "id", None) in named]
        patterns |= {each.value: f"{path.name}:{each.lineno}" for each in given if isinstance(each, ast.Constant)}
    assert len(patterns) > 50
    assert {pattern: where for pattern, where in patterns.items() if pattern not in WORDS["de"]} == {}


def test_an_error_is_said_in_the_callers_language_and_is_english_everywhere_else():
    with pytest.raises(FluxDemoError) as caught:
        Size(130, 128)
    again = pickle.loads(pickle.dumps(caught.value))  # as from another process
    for error in (caught.value, again):
        assert str(error) == "The width is 130, and FLUX needs sides that are multiples of 16 pixels. The nearest are 128 and 144."
        with in_language("ja"):
            assert (
                html.sentence(error)
                == "幅が 130 ですが、FLUX では各辺が 16 ピクセルの倍数でなければなりません。最も近いのは 128 と 144 です。"
            )


def test_sentences_and_lists_are_joined_as_the_language_does_it():
    told = join_sentences(
        Text("Image"),
        "",
        "Stopped.",
        Text("What cannot be used here is left out: {names}.", names=join_listed([Text("Seed"), "{", Text("Size")])),
    )
    assert str(told) == "Image Stopped. What cannot be used here is left out: Seed, {, Size."
    with in_language("ja"):
        assert translate(told) == "画像停止しました。ここで使えないものは省かれます：シード、{、サイズ。"
    with in_language("de"):
        assert translate(told) == "Bild Gestoppt. Was hier nicht verwendet werden kann, entfällt: Seed, {, Größe."


def texts_in(node, module):
    """The texts that an expression may be, pieces of texts marked as such. What another function returns is looked at where it says it."""
    if isinstance(node, ast.Constant) and node.value != "":
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield from (f"…{part.value}…" for part in node.values if isinstance(part, ast.Constant) and part.value.strip())
    elif isinstance(node, ast.Name) and isinstance(text := getattr(module, node.id, None), str):
        yield text
    elif isinstance(node, ast.IfExp):
        yield from (*texts_in(node.body, module), *texts_in(node.orelse, module))
    elif isinstance(node, ast.BinOp):
        yield from (*texts_in(node.left, module), *texts_in(node.right, module))


def test_translations_have_the_values_of_their_texts():
    for words in WORDS.values():
        assert [key for key, word in words.items() if sorted(re.findall(r"{\w*}", key)) != sorted(re.findall(r"{\w*}", word))] == []


@pytest.mark.parametrize(
    ("accepts", "language"),
    [
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("zh-CN", "zh-CN"),
        ("en-GB,de;q=0.9", ""),
        ("zh-TW", ""),
        ("*", ""),
        (None, ""),
        ("de\n;", "de"),
        ("x" * 9999, ""),
    ],
)
def test_the_first_language_that_a_browser_names_is_spoken(accepts, language):
    assert language_of(accepts) == language


def test_languages_that_somebody_invents_read_no_file(monkeypatch):
    """Whoever asks may write anything into that header, in every request."""
    assert language_of("de") == "de"
    monkeypatch.setattr(languages, "_read", lambda path: pytest.fail(f"{path.name} was read again"))
    assert {language_of(f"x-{number}") for number in range(300)} == {""}


def test_a_run_is_told_in_the_browsers_language(visit, photo_file, slow_steps):
    page = visit(tab="Canny", locale="de-DE")
    expect(page.get_by_text("Weiße Linien, wo sich die Farben des Fotos ändern.").locator("visible=true")).to_be_visible()
    prompt_field(page).fill("a red cube")
    give_photo(page, "canny", photo_file)
    expect(page.locator("#tab-canny .note").get_by_text("Kantenpixel.")).to_be_visible()
    page.get_by_label("Schritte, als Zahl").locator("visible=true").fill("30")
    page.keyboard.press("Tab")
    note_status(page, "canny")
    page.get_by_role("button", name="Erzeugen", exact=True).locator("visible=true").click()
    page.locator("#status-canny").get_by_text(re.compile(r"Schritt \d+ von 30, noch etwa \d+ s")).wait_for()
    page.get_by_role("button", name="Stopp", exact=True).locator("visible=true").click()
    expect(page.locator("#status-canny")).to_contain_text("Das Teilbild wird nur behalten, wenn Sie es sagen.")
    expect(page.locator("#caption-canny")).to_contain_text(re.compile(r"Teilbild, Schritt \d+ von 30 · Seed \d+"))
    heard = " ".join(page.evaluate("[...window.heard]"))
    assert "In der Warteschlange" in heard and "Wird gestoppt" in heard
    assert not re.search(r"\b(Step|step|In queue|Stopping|Stopped|Reading|__i18n__)\b", heard)


def test_the_page_is_in_the_browsers_language(visit):
    page = visit(tab="Canny", locale="de-DE")
    for text in (
        "Kantenkarte",
        "Untere Schwelle",
        "niedriger: auch schwache Linien",
        "Zuschneiden",
        "Wie das Foto",
        "Ihre Bilder",
    ):
        expect(page.get_by_text(text, exact=True).locator("visible=true").first).to_be_visible()
    expect(page.locator("#prompt-canny textarea")).to_have_attribute("placeholder", "Beschreiben Sie das Bild, auf Englisch")
    empty = page.locator("#picture-canny .empty").evaluate("e => getComputedStyle(e, '::after').content")
    assert "Hier erscheint das Bild" in empty
    page.get_by_role("tab", name="Text", exact=True).click()
    expect(page.locator("#tab-text .note .say")).to_have_text("0.07 Megapixel")
    prompt_field(page).fill("a red dragon.")
    expect(page.locator("#tab-text details.hint summary")).to_have_text("Das Mini-Modell kennt „dragon“ nicht. Was es kennt")
    prompt_field(page).fill("a red cube")
    page.get_by_label("Größe", exact=True).locator("visible=true").click()
    expect(page.get_by_role("option")).to_have_text([re.compile(f", {shape}") for shape in SHAPES])
    page.get_by_label("Größe", exact=True).locator("visible=true").fill(SMALL)
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Erzeugen", exact=True).locator("visible=true").click()
    wait_for_status(page, "text", "Fertig in")
    expect(page.locator("#picture-text img")).to_have_attribute("alt", "Bild zum Prompt: a red cube")
    expect(page.locator("#caption-text")).to_contain_text("Eingebautes Mini-FLUX (CPU)")
    expect(
        page.get_by_role("heading", name="Bild", exact=True).locator("visible=true")
    ).to_be_visible()  # the server sent that heading anew
    details = page.locator("#tab-text details.recipe")
    expect(details.locator("summary")).to_have_text("Details")  # and not the mark that the server sent
    expect(details.locator("dt")).to_have_text(["Prompt", "Modell", "Guidance", "Voreinstellung", "Plan", "Erzeugt"])
    questions = []
    page.on("dialog", lambda dialog: (questions.append(dialog.message), dialog.dismiss()))
    page.get_by_role("button", name="Alle löschen", exact=True).click()
    assert questions == ["Alle Ihre Bilder löschen? Die Dateien werden auch gelöscht."]


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"browser": {}, "server": {"Size": 3}}', '{"Size": "Formaat"}', b"\xff"], ids=repr)
def test_a_damaged_file_is_named(content, tmp_path, monkeypatch):
    (tmp_path / "nl.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    monkeypatch.setattr(languages, "FOLDER", tmp_path)
    with pytest.raises(FluxDemoError, match=r"assets/languages/nl\.json"):
        languages.languages()


def test_a_language_is_one_file(tmp_path, monkeypatch):
    words = {"browser": {"Size": "Formaat"}, "server": {"The map appears here": 'Hier komt "de kaart"'}}
    (tmp_path / "nl.json").write_text(json.dumps(words), "utf-8")
    monkeypatch.setattr(languages, "FOLDER", tmp_path)
    assert languages.browser_texts().translations["nl"] == {"Size": "Formaat"}
    assert languages.languages()["nl"].keys() == {"Size", "The map appears here"}
    assert languages.language_css() == r""":lang(nl) { --no-map: "Hier komt \"de kaart\"" }"""
