//! Reports and the lesson in a real browser: nothing is fetched, nothing is missing, and they can be read on a phone and in the dark.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::binary::softstep;
use crate::browser::{Browser, chromium};
use crate::serving::Serving;
use crate::skip::skipped_outside_ci;
use serde_json::{Value, json};

/// What a page looks like, to a script in it.
const LOOK: &str = r#"(() => {
    const channels = text => (text.match(/[\d.]+/g) || [0, 0, 0, 0]).map(Number);
    const over = ([r, g, b, a = 1], below) => [r, g, b].map((channel, i) => a * channel + (1 - a) * below[i]);
    const luminance = colour => {
        const [r, g, b] = colour.map(c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = element => element ? over(channels(getComputedStyle(element).backgroundColor), ground(element.parentElement)) : [255, 255, 255];
    const contrast = element => {
        const style = getComputedStyle(element), svg = element instanceof SVGElement;
        const below = ground(svg ? element.closest('figure') : element);
        const [a, b] = [luminance(over(channels(svg ? style.fill : style.color), below)), luminance(below)];
        return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    };
    const texts = [...document.querySelectorAll('body *')].filter(element =>
        [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim()) && element.getBoundingClientRect().width);
    const scale = svg => svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
    const plots = [...document.querySelectorAll('figure.plot')];
    return {
        title: document.title,
        sections: [...document.querySelectorAll('h2')].map(heading => heading.textContent),
        plots: plots.map(plot => ({
            title: plot.querySelector('h3').textContent,
            label: plot.querySelector(':scope > svg')?.getAttribute('aria-label') ?? '',
            marks: plot.querySelectorAll(':scope > svg polyline[stroke]:not([stroke="\#D8DEE4"]), :scope > svg circle, :scope > svg rect').length,
            width: plot.querySelector(':scope > svg')?.getBoundingClientRect().width ?? 0,
        })),
        images: [...document.images].map(image => ({ alt: image.alt, shown: image.complete && image.naturalWidth > 0, width: image.getBoundingClientRect().width })),
        tables: document.querySelectorAll('table').length,
        scrollWidth: document.documentElement.scrollWidth,
        ground: luminance(ground(document.body)),
        smallest: Math.min(...texts.map(element => parseFloat(getComputedStyle(element).fontSize)
            * (element instanceof SVGElement ? scale(element.ownerSVGElement) : 1))),
        palest: texts.map(element => [contrast(element), element.textContent.trim().slice(0, 40)]).sort((a, b) => a[0] - b[0])[0],
        clipped: [...document.querySelectorAll('figure.plot > svg')].flatMap(svg => [...svg.querySelectorAll('text')].filter(text => {
            const [inner, outer] = [text.getBoundingClientRect(), svg.getBoundingClientRect()];
            return inner.left < outer.left - 1 || inner.right > outer.right + 1;
        })).map(text => text.textContent.trim()),
        overlapping: [...document.querySelectorAll('figure.plot > svg')].flatMap(svg => {
            const boxes = [...svg.querySelectorAll('text')].map(text => [text.getBoundingClientRect(), text.textContent.trim()]);
            return boxes.flatMap(([a, first], i) => boxes.slice(i + 1).filter(([b]) =>
                a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 3 && b.top < a.bottom - 3).map(([, second]) => `${first} | ${second}`));
        }),
    };
})()"#;

/// Looks at a page, on a desk and on a phone, light and dark; gives what is on it.
fn look(browser: &mut Browser, page: &Path) -> Value {
    look_at(browser, &format!("file://{}", page.display()), &[""])
}

/// Looks at an address as [`look`] does; `parts` are behind it in the addresses of what the page is made of.
fn look_at(browser: &mut Browser, page: &str, parts: &[&str]) -> Value {
    let mut looks = Vec::new();
    for (width, scheme) in [(1200, "light"), (1200, "dark"), (390, "light"), (390, "dark"), (320, "light")] {
        let events = browser.show(page, width, scheme);
        let of = |method: &str| events.iter().filter(move |event| event["method"] == method).collect::<Vec<_>>();
        let requests = of("Network.requestWillBeSent");
        let fetched = requests.iter().map(|event| event["params"]["request"]["url"].as_str().unwrap());
        let fetched: Vec<_> = fetched.filter(|address| !address.starts_with("data:image/png;base64,")).collect();
        let expected: Vec<_> = parts.iter().map(|part| format!("{page}{part}")).collect();
        assert_eq!(fetched, expected);
        for problem in ["Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown"] {
            assert_eq!(of(problem), Vec::<&Value>::new(), "{width} {scheme}");
        }
        let look = browser.evaluate(LOOK);
        let at = format!("{page} at {width} pixels, {scheme}: {look:#}");
        let number = |name: &str| look[name].as_f64().unwrap();
        assert!(number("scrollWidth") <= f64::from(width), "wider than the screen: {at}");
        assert!(number("smallest") >= if width < 390 { 8.0 } else { 9.5 }, "too small: {at}");
        assert!(look["palest"][0].as_f64().unwrap() >= 4.5, "too pale: {at}");
        for texts in ["clipped", "overlapping"] {
            assert_eq!(look[texts], Value::Array(Vec::new()), "{texts}: {at}");
        }
        let ground = number("ground");
        assert!(if scheme == "dark" { ground < 0.05 } else { ground > 0.9 }, "{at}");
        for plot in look["plots"].as_array().unwrap() {
            assert!(plot["marks"].as_u64().unwrap() > 0 && plot["width"].as_f64().unwrap() > 250.0, "{plot} of {at}");
            assert!(plot["label"].as_str().unwrap().len() > 20, "{plot} of {at}");
        }
        for image in look["images"].as_array().unwrap() {
            assert!(image["shown"] == true && image["width"].as_f64().unwrap() > 50.0, "{image} of {at}");
            assert!(image["alt"].as_str().unwrap().len() > 5, "{image} of {at}");
        }
        looks.push(look);
    }
    for name in ["sections", "plots", "images"] {
        let contents = |look: &Value| {
            let named = |item: &Value| item.get("title").or(item.get("alt")).unwrap_or(item).clone();
            look[name].as_array().unwrap().iter().map(named).collect::<Vec<_>>()
        };
        assert!(looks.iter().all(|look| contents(look) == contents(&looks[0])), "{name} differ by width or scheme");
    }
    looks.swap_remove(0)
}

/// The titles of what is on a page.
fn titles(look: &Value, name: &str) -> Vec<String> {
    let items = look[name].as_array().unwrap().iter();
    items.map(|item| item.get("title").unwrap_or(item).as_str().unwrap().to_string()).collect()
}

fn train(folder: &Path, out: &str, arguments: &[&str]) -> PathBuf {
    let train = [&["train", "-q", "--backend", "cpu", "--out", out], arguments].concat();
    let run = softstep(folder, &train);
    assert!(run.code == 0 && run.stderr.lines().all(|line| line.starts_with("note: ")), "{run:?}");
    folder.join(out).join("report.html")
}

#[test]
fn reports_show_everything_and_fetch_nothing_on_desk_and_phone_by_day_and_night() {
    let Some(chromium) = chromium() else {
        return skipped_outside_ci("this needs Chromium, as `chromium` in PATH or named by CHROMIUM");
    };
    let mut browser = Browser::open(&chromium);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();

    let page = train(path, "digits", &["--data", "digits", "--epochs", "3", "--validation", "0.1"]);
    let digits = look(&mut browser, &page);
    let training = ["Loss of every step", "Loss after each epoch", "Accuracy after each epoch", "Learning rate"];
    assert_eq!(
        titles(&digits, "sections"),
        ["Training", "Test", "Worst mistakes", "What the model looks for", "The run"]
    );
    let mut plots = titles(&digits, "plots");
    assert!(plots.pop().is_some_and(|title| title.starts_with("Reliability, off by")));
    assert_eq!(plots, [&training[..], &["Mistakes by class"]].concat());
    // Mistakes, ten classes of weights and the scale of their colours.
    let images = digits["images"].as_array().unwrap();
    let alternatives: BTreeSet<&str> = images.iter().map(|image| image["alt"].as_str().unwrap()).collect();
    assert_eq!(images.len(), alternatives.len(), "{alternatives:?}");
    assert_eq!(alternatives.iter().filter(|alt| alt.starts_with("weights of")).count(), 10);
    assert!(alternatives.iter().filter(|alt| alt.starts_with("test example")).count() >= 10, "{alternatives:?}");
    // Precision and recall, and the confusion matrix.
    assert_eq!(digits["tables"], 2);

    let mut houses = String::from("size,kind,<b>price</b>\n");
    for row in 0..400 {
        let (size, kind) = (30 + row * 7 % 170, ["flat", "<script>alert(1)</script>", "a & b"][row % 3]);
        houses += &format!("{size},{kind},{}\n", 1500 * size + 20000 * (row % 3) + row * 13 % 9000);
    }
    fs::write(path.join("houses.csv"), houses).unwrap();
    let page = train(path, "houses", &["--data=houses.csv", "--target=<b>price</b>", "--epochs=8", "--lr=0.05"]);
    let houses = look(&mut browser, &page);
    assert_eq!(titles(&houses, "sections"), ["Training", "Test", "Columns that matter", "Worst mistakes", "The run"]);
    let plots = titles(&houses, "plots");
    assert_eq!(plots[2..], ["R² after each epoch", "Learning rate", "Predicted <b>price</b> over the actual"]);
    assert!(houses["plots"][4]["marks"].as_u64().unwrap() > 80, "{houses:#}");

    // Many epochs, many names, and long ones.
    let mut many = String::from("x,name\n");
    for row in 0..600 {
        many += &format!("{},\"a class with a rather long name, number {}\"\n", row % 40 * 3 + row % 7, row % 40);
    }
    fs::write(path.join("many.csv"), many).unwrap();
    let page = train(path, "many", &["--data=many.csv", "--target=name", "--epochs=45", "--hidden=8"]);
    look(&mut browser, &page);

    let mut few = String::from("x,name\n");
    for row in 0..300 {
        few += &format!("{},\"a name too long for its bar, number {}\"\n", row % 11 * 3 + row % 7, row % 11);
    }
    fs::write(path.join("few.csv"), few).unwrap();
    let page = train(path, "few", &["--data=few.csv", "--target=name", "--epochs=3"]);
    look(&mut browser, &page);

    let runs = ["report", "digits", "houses", "many", "--out", "all.html"];
    assert_eq!(softstep(path, &runs).code, 0);
    let all = look(&mut browser, &path.join("all.html"));
    assert_eq!(titles(&all, "sections"), ["Results", "Training", "Settings that differ", "Settings that are the same"]);
}

#[test]
fn the_lesson_shows_everything_and_fetches_nothing_in_both_languages() {
    let Some(chromium) = chromium() else {
        return skipped_outside_ci("this needs Chromium, as `chromium` in PATH or named by CHROMIUM");
    };
    let mut browser = Browser::open(&chromium);
    let folder = tempfile::tempdir().unwrap();
    for (lang, title, first, figure) in [
        ("en", "Why classification has its own loss", "1. A quantity: house prices", "Figure "),
        ("zh", "分类为什么要用自己的损失函数", "1. 学一个数量：房价", "图 "),
    ] {
        let run = softstep(folder.path(), &["explain", "-q", "--backend", "cpu", "--lang", lang]);
        assert_eq!((run.code, run.stderr.as_str()), (0, ""));
        assert!(run.stdout.starts_with("page in explain.html"), "{run:?}");
        let lesson = look(&mut browser, &folder.path().join("explain.html"));
        assert_eq!(lesson["title"], title);
        let sections = titles(&lesson, "sections");
        assert_eq!((sections.len(), sections[0].as_str()), (9, first));
        let plots = titles(&lesson, "plots");
        let numbers: Vec<&str> = plots
            .iter()
            .map(|title| title.strip_prefix(figure).unwrap().split(['.', '\u{3000}']).next().unwrap())
            .collect();
        let expected = ["1a", "1b", "2", "3a", "3b", "4a", "4b", "5", "6a", "6b", "6c", "6d", "6e", "7"];
        assert_eq!(numbers, expected);
        // The house prices' factors, the two fits, the three losses, and ten of the one step.
        assert_eq!(lesson["tables"], 13);
        assert_eq!(lesson["images"].as_array().unwrap().len(), 14);
        // Every link of the contents leads somewhere.
        let dead =
            "[...document.querySelectorAll('a')].filter(a => !document.querySelector(a.getAttribute('href'))).length";
        assert_eq!(browser.evaluate(dead), 0);
        assert_eq!(browser.evaluate("document.querySelectorAll('nav a').length"), 9);
    }
}

#[test]
fn inspected_steps_and_hardest_examples_can_be_looked_at_on_desk_and_phone_by_day_and_night() {
    let Some(chromium) = chromium() else {
        return skipped_outside_ci("this needs Chromium, as `chromium` in PATH or named by CHROMIUM");
    };
    let mut browser = Browser::open(&chromium);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let inspect = |arguments: &[&str], page: &str| {
        let run = softstep(path, &[&["inspect"], arguments].concat());
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{run:?}");
        path.join(page)
    };
    train(path, "digits", &["--data", "digits", "--hidden", "8", "--epochs", "3"]);
    let page = inspect(&["digits", "--step", "30", "--what-if", "lr=0.02"], "digits/inspect-30.html");
    let step = look(&mut browser, &page);
    let sections = ["What if", "Layers", "Most changed weights of the first layer", "The batch"];
    assert_eq!(titles(&step, "sections"), sections);
    assert_eq!(titles(&step, "plots"), ["Loss of each step"]);
    // The weights of 8 outputs, and the 64 examples of the batch.
    assert_eq!(step["images"].as_array().unwrap().len(), 8 + 64);
    let hardest = look(&mut browser, &inspect(&["digits"], "digits/inspect.html"));
    assert_eq!(titles(&hardest, "sections"), ["Likely label errors"]);
    assert_eq!(hardest["images"].as_array().unwrap().len(), 48);
    let rows: String = (0..60).map(|row| format!("{row},{},{}\n", row % 7, ["a", "<b>"][row % 2])).collect();
    fs::write(path.join("t.csv"), format!("x,y,kind\n{rows}")).unwrap();
    train(path, "table", &["--data", "t.csv", "--target", "kind", "--epochs", "2"]);
    look(&mut browser, &inspect(&["table", "--step", "1"], "table/inspect-1.html"));
    look(&mut browser, &inspect(&["table"], "table/inspect.html"));
}

/// Moves the mouse with its button down along these points of the page.
fn draw(browser: &mut Browser, points: &[(f64, f64)]) {
    let mut mouse = |kind: &str, (x, y): (f64, f64)| {
        let buttons = u8::from(kind != "mouseReleased");
        let event = json!({ "type": kind, "x": x, "y": y, "button": "left", "buttons": buttons, "clickCount": 1, "pointerType": "mouse" });
        browser.call("Input.dispatchMouseEvent", event);
    };
    mouse("mousePressed", points[0]);
    points.iter().for_each(|&point| mouse("mouseMoved", point));
    mouse("mouseReleased", points[points.len() - 1]);
}

/// What the page of a server says, once it matches a pattern.
fn result(browser: &mut Browser, pattern: &str) -> String {
    let wait = format!(
        "new Promise((done, failed) => {{ let rest = 100; const look = () => {{ const text = document.getElementById('result').innerText; \
         if (/{pattern}/.test(text)) done(text); else if (!rest--) failed(new Error(text)); else setTimeout(look, 50); }}; look(); }})"
    );
    browser.evaluate(&wait).as_str().unwrap().into()
}

#[test]
fn the_page_of_a_server_predicts_what_is_drawn_and_typed() {
    let Some(chromium) = chromium() else {
        return skipped_outside_ci("this needs Chromium, as `chromium` in PATH or named by CHROMIUM");
    };
    let mut browser = Browser::open(&chromium);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    train(path, "digits", &["--data=digits", "--hidden=32", "--epochs=20"]);
    let serving = Serving::start(path, &["digits"]);
    let address = format!("http://{}/", serving.address);
    let page = look_at(&mut browser, &address, &["", "page.js"]);
    assert_eq!(page["title"], "Predict with a model of digits – softstep");
    assert_eq!(titles(&page, "sections"), ["Prediction", "For programs", "The model"]);
    let corner = browser
        .evaluate("(({ left, top }) => [left, top])(document.getElementById('drawing').getBoundingClientRect())");
    let at = |x: f64, y: f64| (corner[0].as_f64().unwrap() + x, corner[1].as_f64().unwrap() + y);
    // A ring.
    let ring: Vec<_> = (0..=40)
        .map(|step| f64::from(step) / 40.0 * std::f64::consts::TAU)
        .map(|angle| at(140.0 + 55.0 * angle.sin(), 140.0 - 85.0 * angle.cos()))
        .collect();
    draw(&mut browser, &ring);
    let text = result(&mut browser, "%");
    assert!(text.trim_start().starts_with('0'), "{text}");
    if let Some(to) = std::env::var_os("SOFTSTEP_PICTURES") {
        browser.picture(&Path::new(&to).join("serve-digits.png"));
    }
    let clear = "document.getElementById('clear').click()";
    browser.evaluate(clear);
    result(&mut browser, "Nothing was predicted");
    // A point is no digit that anybody would read; the page tells what the server says.
    draw(&mut browser, &[at(140.0, 140.0)]);
    result(&mut browser, "%|no digit");

    // Sizes that count up would be taken for an index.
    let row = |row: usize| (row * 37 % 80, ["a", "<b>", ""][row % 3], ["no", "yes"][row * 37 % 80 / 40]);
    let rows: String = (0..80).map(row).map(|(size, kind, big)| format!("{size},{kind},{big}\n")).collect();
    fs::write(path.join("t.csv"), format!("\"<i>size\",kind,big\n{rows}")).unwrap();
    train(path, "table", &["--data=t.csv", "--target=big", "--epochs=30"]);
    let serving = Serving::start(path, &["table"]);
    let address = format!("http://{}/", serving.address);
    look_at(&mut browser, &address, &["", "page.js"]);
    let fill = |size: &str| {
        format!(
            "document.querySelector('[data-column=\"<i>size\"]').value = '{size}'; \
             document.querySelector('#row button').click()"
        )
    };
    browser.evaluate(&fill("75"));
    assert!(result(&mut browser, "%").trim_start().starts_with("yes"));
    browser.evaluate(&fill("3"));
    assert!(result(&mut browser, "^\\s*no").contains('%'));
    if let Some(to) = std::env::var_os("SOFTSTEP_PICTURES") {
        browser.picture(&Path::new(&to).join("serve-table.png"));
    }
    browser.evaluate(&fill("large"));
    assert!(result(&mut browser, "large").contains("<i>size"));
}
