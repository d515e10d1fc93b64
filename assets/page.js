() => {
    const inSight = (selector) => [...document.querySelectorAll(selector)].find((part) => part.offsetParent !== null && !part.disabled);
    const shown = (selector) => [...document.querySelectorAll(selector)].filter((part) => part.getClientRects().length > 0);
    // What is in the fixed row has no offsetParent of its own, so boxes are asked instead.
    const button = (name) => shown(`button.${name}, .${name} button`).find((part) => !part.disabled);
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const intoView = (part, block = "center") => part?.scrollIntoView({ block, behavior: still ? "auto" : "smooth" });
    const small = () => matchMedia("(max-width: 860px)").matches;

    // Ctrl+Enter runs the tab in sight. Escape stops it, but only when it means nothing else: no list, dialog, full screen or note is open and
    // no input method is composing.
    const somethingOpen = () => document.fullscreenElement || document.querySelector(".fullscreen, dialog[open], [role=dialog]")
        || document.activeElement?.matches("[role=combobox][aria-expanded=true]");
    document.addEventListener("keydown", (event) => {
        if (event.isComposing || event.keyCode === 229 || !event.isTrusted) return;
        if ((event.ctrlKey || event.metaKey) && !event.altKey && /^[zy]$/i.test(event.key) && undoStroke(event)) return;
        if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
            event.preventDefault();
            if (document.activeElement.matches("[role=combobox], input[type=number]")) document.activeElement.blur(); // Gradio takes what was typed there only now
            setTimeout(() => button("run")?.click());
        } else if (event.key === "Escape" && !somethingOpen()) {
            (noteCloser() ?? button("stop"))?.click();
        } else if (event.key === "ArrowUp" || event.key === "ArrowDown") {
            recall(event);
        } else if ((event.key === "ArrowLeft" || event.key === "ArrowRight") && !(event.altKey || event.ctrlKey || event.metaKey || event.shiftKey)) {
            goThrough(event);
        }
    }, true);

    const KEYS = { "button.run": "Ctrl+Enter", "button.stop": "Escape", ".prompt textarea": "Arrow up: earlier prompts" };
    const nameKeys = () => {
        for (const [selector, key] of Object.entries(KEYS)) for (const part of document.querySelectorAll(`${selector}:not([title])`)) part.title = key;
    };

    // What replaces a prompt is typed in, so that the browser's own undo brings the old one back.
    const type = (field, text) => {
        field.focus();
        field.select();
        document.execCommand("insertText", false, text);
    };
    document.addEventListener("click", (event) => {
        const chip = event.target.closest?.("button.chip");
        const field = chip && inSight(".prompt textarea");
        if (field) type(field, chip.textContent.trim());
    });

    document.addEventListener("click", ({ target }) => target.closest?.("button.check-again") && document.querySelector("#check-again").click());

    // The up arrow in an empty prompt, or in one that came from there, offers the last prompts.
    let recalled = "";
    const recall = (event) => {
        const field = event.target.closest?.(".prompt textarea");
        const prompts = [...document.querySelectorAll("#recent i")].map((each) => each.textContent);
        if (!field || !prompts.length || (field.value && field.value !== recalled)) return;
        const next = (field.value ? prompts.indexOf(recalled) : -1) + (event.key === "ArrowUp" ? 1 : -1);
        if (next < 0 || next >= prompts.length) return;
        event.preventDefault();
        recalled = prompts[next];
        type(field, recalled);
    };

    // The left and right arrows go through one's images, from a thumbnail or from the image in sight.
    const thumbs = () => [...document.querySelectorAll("#history button:has(img)")];
    const goThrough = (event) => {
        const at = event.target.closest?.("#history button, .box.large:not(.fullscreen)");
        const from = at?.matches(".large") ? thumbs().find((thumb) => thumb.ariaCurrent === "true") : at;
        const next = from && thumbs()[thumbs().indexOf(from) + (event.key === "ArrowRight" ? 1 : -1)];
        if (!next) return;
        event.preventDefault();
        if (from === at) next.focus();
        next.click();
    };
    // The thumbnail of the image in sight is marked; their files lie in one folder.
    const markShown = () => {
        const folder = (image) => image?.src.replace(/[^/]*$/, "");
        const inPlace = folder(inSight(".box.large img"));
        for (const thumb of thumbs()) thumb.ariaCurrent = String(folder(thumb.querySelector("img")) === inPlace);
    };

    // A click on an image enlarges it, as the button in its corner does.
    document.addEventListener("click", (event) => {
        event.target.closest?.(".image-container > button")?.parentElement.querySelector(".icon-button-wrapper > button")?.click();
    });

    // Gradio opens a list again that was left with Tab. Its own Escape closes it.
    const closeIfLeft = (list) => {
        if (list.ariaExpanded !== "true" || document.activeElement === list) return;
        list.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", code: "Escape", bubbles: true }));
    };
    const lists = new MutationObserver((changes) => changes.forEach(({ target }) => closeIfLeft(target)));
    document.addEventListener("focusout", ({ target }) => {
        if (!target.matches?.("[role=combobox]")) return;
        lists.observe(target, { attributeFilter: ["aria-expanded"] });
        setTimeout(closeIfLeft, 0, target);
    }, true);

    // A number that was emptied or is out of range stays as it was typed, to be refused in words; Gradio would make it the least or the most
    // that there is.
    document.addEventListener("blur", (event) => {
        if (event.target.matches?.(".dial input[type=number]") && (event.target.value === "" || event.target.matches(":out-of-range"))) event.stopImmediatePropagation();
    }, true);

    // What cannot be a seed is marked at once, and the style sheet says what can.
    const checkSeed = (field) => {
        const text = field.value.trim();
        field.ariaInvalid = !/^(\+?\d{1,10})?$/.test(text) || Number(text) > 4294967295;
    };
    document.addEventListener("input", ({ target }) => target.matches?.(".seed input") && checkSeed(target));

    // The settings are folded by the style sheet, on small screens only.
    document.addEventListener("click", (event) => {
        const label = event.target.closest?.(".settings > .label-wrap");
        if (!label) return;
        event.stopPropagation();
        label.ariaExpanded = label.parentElement.classList.toggle("unfolded");
    }, true);

    // Which thumbnail was clicked, for ui/thumbs.py: before Gradio's gallery tells of it.
    document.addEventListener("click", (event) => {
        const thumb = event.target.closest?.(".thumbs button:has(img)");
        if (thumb) thumb.closest(".thumbs").dataset.chosen = thumb.querySelector("img").src;
    }, true);

    // A PNG with a recipe restores its settings, wherever it is dropped or pasted; any other picture becomes the photo of the tab in sight,
    // and in the text tab the answer offers the other tabs. Words win in a text field.
    const give = (input, file) => {
        if (!input || !file) return;
        const one = new DataTransfer();
        one.items.add(file);
        input.files = one.files;
        input.dispatchEvent(new Event("change", { bubbles: true }));
    };
    const restoring = () => document.querySelector(".pictures-head input[type=file]");
    const carriesRecipe = (bytes) => {
        const text = new TextDecoder("latin1").decode(bytes);
        return text.slice(1, 4) === "PNG" && /(tEXt|iTXt|zTXt)flux_demo\0/.test(text);
    };
    const noteCloser = () => shown("#restore-note button.close-note")[0];
    const closeNote = () => noteCloser()?.click();
    // Of several files one is taken, an image if there is one, and the note says which.
    const tellOf = (name, count) => {
        const said = getComputedStyle(document.documentElement).getPropertyValue("--one-image");
        const words = said ? JSON.parse(said) : "One image at a time: of {count} files, only {name} was taken.";
        const note = document.createElement("div");
        document.querySelector(".of-several")?.remove();
        note.className = "status prose of-several";
        note.innerHTML = '<p class="say problem"></p>';
        note.firstChild.textContent = words.replace("{count}", count).replace("{name}", () => name);
        document.querySelector("#restore-note").prepend(note);
    };
    document.addEventListener("click", ({ target }) => target.closest?.("#restore-note button") && document.querySelector(".of-several")?.remove());
    // Of a file that is no image, Gradio would speak in its own words; under the name of one, it gets the server's.
    const isImage = ({ type }) => /^image\/(?!svg)/.test(type); // Gradio's panel would take an SVG, which is no photo
    const asImage = (file) => isImage(file) ? file : new File([file], `${file.name}.png`, { type: "image/png" });
    // A file waits until the photo of before is back, ten seconds at most; that would take its place.
    const pause = (ms) => new Promise((next) => setTimeout(next, ms));
    let open = false;
    const opened = async () => {
        for (let tries = 0; !window.doneWhileOpening.over && tries < 200; tries += 1) await pause(50);
        open = true;
    };
    let latest = null;
    const usePhoto = async (file, id = null) => { // in the panel of this id, or else in the one in sight
        latest = file;
        for (let tries = 0; latest === file && tries < 300; tries += 1) {
            const box = id ? document.getElementById(id) : inSight(".own .box"), photo = box?.querySelector("input[type=file]");
            if (photo) return give(photo, file);
            box?.querySelector(".icon-button-wrapper button")?.click(); // the file field comes back with the empty panel
            await pause(100); // neither is there while the file before is on its way
        }
    };
    const receive = async (files) => {
        const given = files.find(isImage) ?? files[0];
        if (!given) return;
        const start = await given.slice(0, 2 ** 25).arrayBuffer().catch(() => null); // as much as the server takes
        const file = asImage(start ? given : new File(["unreadable"], given.name)); // such as a folder; the server says that it is no image
        closeNote();
        await opened();
        const restores = !inSight(".own .box") || start && carriesRecipe(start);
        if (restores) give(restoring(), file);
        if (files.length > 1) tellOf(given.name, files.length);
        if (!restores) usePhoto(file);
    };
    document.addEventListener("change", (event) => {
        const file = event.target.matches?.(".own .box input[type=file], .pictures-head input[type=file]") && event.target.files[0];
        if (file && event.target === restoring()) closeNote();
        const early = !open && !window.doneWhileOpening.over;
        if (!file || isImage(file) && !early) return;
        event.stopImmediatePropagation();
        const box = early && event.target.closest(".own .box"), field = event.target;
        opened().then(() => box ? usePhoto(asImage(file), box.id) : give(field, asImage(file)));
    }, true);
    const isFile = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
    document.addEventListener("dragover", (event) => {
        if (!isFile(event)) return;
        document.body.classList.add("dragging");
        event.preventDefault();
    });
    document.addEventListener("dragleave", (event) => event.relatedTarget || document.body.classList.remove("dragging"));
    document.addEventListener("drop", (event) => {
        document.body.classList.remove("dragging");
        if (!isFile(event) && !event.target.closest?.(".own .box")) return;
        event.preventDefault();
        event.stopPropagation(); // a panel would take a file too; anything else, such as an image of the page, would empty it
        if (isFile(event)) receive([...event.dataTransfer.files]);
    }, true);
    document.addEventListener("paste", (event) => {
        const files = [...(event.clipboardData?.files ?? [])];
        const intoText = event.target.closest?.("textarea, input:not([type=file])");
        if (!files.length || intoText && event.clipboardData.getData("text/plain")) return;
        event.preventDefault();
        receive(files);
    });

    // A frame on the photo around what crop keeps; its shares of the photo are beside the map's note.
    const frameCrop = () => {
        for (const pair of document.querySelectorAll(".pair")) {
            const box = pair.querySelector(".own .box"), photo = box?.querySelector("img");
            const keeps = pair.querySelector("[data-keeps]")?.dataset.keeps;
            let frame = box?.querySelector(".crop-frame");
            if (!keeps || !photo?.naturalWidth) frame?.remove();
            if (!keeps || !photo?.naturalWidth || !photo.clientWidth) continue; // in a tab that is not in sight it stays as it was
            if (!frame) {
                frame = document.createElement("div");
                frame.className = "crop-frame";
                frame.append(document.createElement("div"));
                box.append(frame);
            }
            const scale = Math.min(photo.clientWidth / photo.naturalWidth, photo.clientHeight / photo.naturalHeight);
            const [width, height] = [photo.naturalWidth * scale, photo.naturalHeight * scale];
            const place = photo.getBoundingClientRect(), around = box.getBoundingClientRect();
            const [left, top, wide, high] = keeps.split(" ").map((share) => `${100 * share}%`);
            Object.assign(frame.firstChild.style, { left, top, width: wide, height: high });
            Object.assign(frame.style, {
                left: `${place.left - around.left - box.clientLeft + (photo.clientWidth - width) / 2}px`,
                top: `${place.top - around.top - box.clientTop + (photo.clientHeight - height) / 2}px`,
                width: `${width}px`,
                height: `${height}px`,
            });
        }
    };
    addEventListener("resize", frameCrop);
    document.addEventListener("load", (event) => event.target.closest?.(".own .box") && frameCrop(), true);

    // The wheel scrolls the page, also over a map that Gradio would enlarge or move (with Ctrl it does), and over a number that has the focus.
    document.addEventListener("wheel", (event) => {
        const { target } = event;
        if (!event.ctrlKey && target.closest?.(".box.slider:not(.fullscreen), .painter:not(.fullscreen)")) event.stopImmediatePropagation();
        if (target === document.activeElement && target.matches("input[type=number]")) target.blur();
    }, { capture: true, passive: true });

    // Gradio's editor counts the map itself among what can be undone. Strokes are counted here, so that Undo ends at the map.
    document.addEventListener("pointerdown", (event) => {
        const painter = event.target.matches?.("canvas") && event.target.closest(".painter");
        if (!painter) return;
        painter.dataset.strokes = Number(painter.dataset.strokes ?? 0) + 1;
        painter.dataset.ahead = ""; // of the map, until ui/strokes.py answers the choice of another view
        // Gradio's editor paints only where it knows the pointer to be over the map. Of a mouse it is told before; a finger comes from nowhere.
        if (event.pointerType !== "mouse") event.target.dispatchEvent(new PointerEvent("pointermove", event));
    }, true);
    const toolsOf = (painter) => {
        const undo = painter?.querySelector("button:has(svg[aria-label=undo])"); // in every language, unlike the titles; Redo and the bin come next
        return { undo, redo: undo?.nextElementSibling, bin: undo?.nextElementSibling?.nextElementSibling };
    };
    const noteOf = (painter) => painter.closest(".pane").querySelector(".note [data-map]")?.dataset;
    const agreesToClear = (painter) => { // Undo does not bring back what the bin took
        if (!Number(painter.dataset.strokes) && noteOf(painter)?.painted === undefined) return true; // there is no paint
        const question = getComputedStyle(painter).getPropertyValue("--clear-paint"); // in the visitor's language, see ui/languages.py
        return confirm(question ? JSON.parse(question) : "Remove all paint from this map? This cannot be undone.");
    };
    document.addEventListener("click", (event) => {
        const pressed = event.target.closest?.(".painter button"), painter = pressed?.closest(".painter"), kept = painter?.dataset;
        const { undo, redo, bin } = toolsOf(painter);
        if (!undo || ![undo, redo, bin].includes(pressed)) return;
        if (pressed === bin && !agreesToClear(painter)) return event.stopImmediatePropagation();
        kept.ahead = "";
        if (pressed === redo) kept.strokes = Number(kept.strokes ?? 0) + 1;
        else if (pressed === bin) delete kept.strokes;
        else if (Number(kept.strokes)) kept.strokes -= 1;
        else event.stopImmediatePropagation();
    }, true);
    // Gradio's editor knows no keys, and the browser undoes what was typed last, wherever that was.
    let painted = null; // the editor, until something else is pressed or typed in
    document.addEventListener("pointerdown", ({ target }) => {
        const painter = target.closest?.(".painter");
        if (!painter || target.matches("canvas")) painted = painter;
    }, true);
    for (const name of ["focusin", "input"])
        document.addEventListener(name, ({ target }) => { if (!target.closest(".painter")) painted = null; }, true);
    const undoStroke = (event) => {
        if (!painted || !shown(".painter").includes(painted)) return false;
        event.preventDefault();
        const { undo, redo } = toolsOf(painted);
        (event.shiftKey || /y/i.test(event.key) ? redo : undo)?.click();
        return true;
    };
    const countAnew = () => { // for another map
        for (const painter of document.querySelectorAll(".painter")) {
            const map = noteOf(painter)?.paintedOn;
            if (painter.dataset.paintedOn !== map) delete painter.dataset.strokes;
            painter.dataset.paintedOn = map;
        }
    };

    // Around a map Gradio's canvas is white in the light theme, as the near end of depth is.
    const greyAround = () => {
        const canvas = window.__PIXI_APP__?.renderer;
        if (canvas) canvas.background.color = "#d0d0d0";
    };

    // Another window of this visitor may have made or deleted images meanwhile.
    const lookAgain = () => document.visibilityState === "visible" && document.querySelector("#look-again")?.click();
    addEventListener("focus", lookAgain);
    document.addEventListener("visibilitychange", lookAgain);

    // What goes while it has the focus hands it on: to the button in its place, as where a photo was removed, to the line
    // that it was folded under, or else to Generate.
    let held = null;
    const visible = (part) => part.checkVisibility({ visibilityProperty: true }); // not so in a closed details, although it has a box there
    const buttonsIn = (block) => [...block?.querySelectorAll("button") ?? []].filter((part) => visible(part) && !part.disabled);
    document.addEventListener("focusin", ({ target }) => {
        const block = target.closest(".block");
        held = { target, block, at: buttonsIn(block).indexOf(target) };
    });
    document.addEventListener("pointerdown", () => { held = null; }, true);
    const handOn = () => {
        if (document.activeElement !== document.body || !held || visible(held.target)) return;
        const block = held.block?.isConnected && held.block;
        const toImage = block && block.matches(".large") && !visible(block); // an arrow key went to an image of another tab
        const image = inSight(".box.large .image-container > button");
        if (toImage && !image) return; // it is on its way
        const instead = toImage ? image : block && (buttonsIn(block)[Math.max(held.at, 0)] ?? [...block.querySelectorAll("summary")].find(visible)) || button("run");
        held = null;
        instead?.focus({ preventScroll: true });
    };

    // Focus goes to Stop when a run starts from a button, and back when it ends. On a phone the image comes into view.
    // A comparison comes into view when it is made, and not when a reload brings it back.
    let focusFrom = null, startedBy = "run", stripBefore = null;
    document.addEventListener("click", (event) => {
        if (event.target.closest?.("button.run, button.compare, [role=tab], #history button")) closeNote();
        if (event.target.closest?.("button.compare")) stripBefore = document.querySelector("#strip img")?.src ?? "";
        const start = event.target.closest?.("button.run, button.compare");
        if (start) {
            startedBy = start.matches(".run") ? "run" : "compare";
            focusFrom = document.activeElement === start ? "run" : null;
            voice.textContent = said = ""; // the same mistake is read out again
            if (small() && startedBy === "run") intoView(inSight(".box.large"));
        } else if (event.target.closest?.("#history button")) {
            setTimeout(() => {
                const image = inSight(".box.large"), place = image?.getBoundingClientRect();
                const middle = place && (place.top + place.bottom) / 2;
                if (middle < 0 || middle > innerHeight) intoView(image, "nearest");
            }, 300);
        }
    });
    const moveFocus = () => {
        const lost = document.activeElement === document.body || document.activeElement?.disabled || document.activeElement?.matches?.("button.run, button.compare, button.stop");
        if (focusFrom === "run" && lost && button("stop")) {
            button("stop").focus();
            focusFrom = "stop";
        } else if (focusFrom === "stop" && !button("stop") && button(startedBy)) {
            if (lost) button(startedBy).focus();
            focusFrom = null;
        }
        handOn();
    };

    // The status is read out, steps every ten seconds at most; the browser tab's title counts along.
    const title = document.title;
    const voice = document.createElement("div");
    voice.id = "voice";
    voice.setAttribute("role", "status");
    voice.setAttribute("aria-live", "polite");
    document.body.append(voice);
    let refusedSaid, said = "", stepSaidAt = 0, waiting = false;
    const listen = () => {
        waiting = false;
        requestAnimationFrame(() => setTimeout(moveFocus)); // what was hidden or disabled loses the focus with the next frame, and not before
        frameCrop();
        countAnew();
        greyAround();
        for (const compare of document.querySelectorAll("button.compare")) {
            const busy = compare.closest(".tabitem")?.querySelector("button.run")?.disabled ?? false;
            if (compare.disabled !== busy) compare.disabled = busy;
        }
        const strip = document.querySelector("#strip img")?.src;
        if (stripBefore !== null && strip && strip !== stripBefore) {
            intoView(document.querySelector("#strip"));
            stripBefore = null;
        }
        const refused = shown(".pane .problem")[0]; // why a photo is not taken may be out of sight
        if (refused && refused.textContent !== refusedSaid) refused.scrollIntoView({ block: "nearest", behavior: still ? "auto" : "smooth" });
        refusedSaid = refused?.textContent;
        const step = shown(".status .step")[0]?.textContent.trim();
        const anyStep = step ?? document.querySelector(":root:not(.unanswered) .status .step")?.textContent.trim(); // of another tab
        const wanted = anyStep ? `${anyStep} · ${title}` : title;
        if (document.title !== wanted) document.title = wanted;
        const unanswered = shown(".unanswered .run-row").map((row) => getComputedStyle(row, "::after").content.slice(1, -1));
        const text = [...shown(".status .say, .say.problem").map((part) => part.textContent.trim()).filter(Boolean), ...unanswered].join(" ");
        if (!step || Date.now() - stepSaidAt >= 10000) {
            if (step) stepSaidAt = Date.now();
            if (text !== said) voice.textContent = said = text;
        }
        for (const group of document.querySelectorAll("fieldset:has(input[type=radio])")) { // one tab stop and the arrow keys, as radios have
            const [first, ...rest] = group.querySelectorAll("input[type=radio]");
            for (const radio of rest) if (radio.name !== first.name) radio.name = first.name;
        }
        markShown();
        nameKeys();
        for (const thumb of document.querySelectorAll(".thumbs button:has(img)")) {
            const prompt = thumb.querySelector("img").alt;
            if (prompt && thumb.ariaLabel !== prompt) thumb.ariaLabel = prompt;
        }
        document.querySelectorAll(".seed input").forEach(checkSeed); // those that an event put in
        for (const label of document.querySelectorAll(".settings > .label-wrap:not([aria-expanded])")) label.ariaExpanded = false;
        for (const link of document.querySelectorAll("a.download-link:not([tabindex])")) link.tabIndex = -1; // the button in it is the tab stop
        for (const empty of document.querySelectorAll(".empty[aria-label]:not([role])")) empty.setAttribute("role", "img"); // a name needs a role
    };
    const changes = new MutationObserver(() => {
        if (!waiting) setTimeout(listen, 50);
        waiting = true;
    });
    changes.observe(document.documentElement, { attributeFilter: ["class"] }); // whether the program answers
    changes.observe(document.querySelector("gradio-app") ?? document.body, { childList: true, subtree: true, characterData: true, attributes: true, attributeFilter: ["disabled", "src", "alt", "aria-label", "aria-selected"] });
}
