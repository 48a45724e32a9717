//! What the lesson's page says, in both languages side by side: nothing can be said in one of them alone.
//!
//! A [`Text`] is asked for a message by name. Messages that are `Markup` are HTML already, so only numbers and what was
//! [`escaped`] may be put into them; `&str` and `String` are plain.

use clap::ValueEnum;
use std::cmp::Ordering;

use maud::{Markup, PreEscaped, html};

use super::experiments::{Digits, Fit, Houses, OneStep, Softmax, Tumours, TwoClasses};
use crate::format::number;
use crate::html;

/// A number with so many decimals, and a true minus sign.
pub fn fixed(number: f64, decimals: usize) -> String {
    if !number.is_finite() {
        return "–".into();
    }
    let text = format!("{number:.decimals$}");
    match text.strip_prefix('-') {
        Some(size) if size.chars().all(|digit| "0.".contains(digit)) => size.into(),
        Some(size) => format!("−{size}"),
        None => text,
    }
}

/// A number of any size with so many digits that mean something: 12,300, 0.042, 8.6 × 10¹⁷.
pub fn quantity(value: f64, digits: i32) -> String {
    if value == 0.0 || !value.is_finite() || (1e-4..1e7).contains(&value.abs()) {
        return number(value, digits);
    }
    let text = format!("{:.*e}", (digits - 1).max(0) as usize, value.abs());
    let (size, power) = text.split_once('e').unwrap_or((&text, "0"));
    let size = if size.contains('.') { size.trim_end_matches('0').trim_end_matches('.') } else { size };
    let raised = |character| match character {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        digit => char::from_u32('⁰' as u32 + digit as u32 - '0' as u32).unwrap_or(digit),
    };
    let power: String = power.chars().map(raised).collect();
    format!("{}{size}\u{a0}×\u{a0}10{power}", if value < 0.0 { "−" } else { "" })
}

/// Formats a number as [`fixed`] does, in brackets if it is below 0, to stand as a factor.
fn factor(number: f64, decimals: usize) -> String {
    let text = fixed(number, decimals);
    if text.starts_with('−') { format!("({text})") } else { text }
}

/// `= result`, or `≈ result` where the terms, as they are printed, come to another.
fn equals(of_printed: f64, result: f64, decimals: usize) -> String {
    let result = fixed(result, decimals);
    let sign = if fixed(of_printed, decimals) == result { "=" } else { "≈" };
    format!("{sign} {result}")
}

/// A number as [`fixed`] prints it.
fn as_printed(number: f64, decimals: usize) -> f64 {
    format!("{number:.decimals$}").parse().unwrap_or(f64::NAN)
}

/// `−ln p = loss`, with so many digits of `p` that it is true as printed.
fn logarithm(p: f64, loss: f64, decimals: usize) -> String {
    let enough = |digits: &usize| fixed(-as_printed(p, *digits).ln(), decimals) == fixed(loss, decimals);
    let digits = (4..=8).find(enough).unwrap_or(4);
    format!("−ln\u{a0}{} {}", fixed(p, digits), equals(-as_printed(p, digits).ln(), loss, decimals))
}

/// A share as a percentage.
pub fn percent(share: f64) -> String {
    format!("{} %", fixed(100.0 * share, 1))
}

/// A small number, in words that HTML understands: 1.2 × 10⁻⁷.
pub fn small(number: f64) -> String {
    let text = format!("{number:.1e}");
    match text.split_once('e') {
        Some(("0.0", _)) => "0".into(),
        Some((digits, power)) => format!("{digits} × 10<sup>{}</sup>", power.replace('-', "−")),
        None => text,
    }
}

/// HTML without attributes, that is kept on one line.
fn unbroken(html: &str) -> String {
    // Without the joiner a line may end between a sign and its bracket.
    html.replace(' ', "\u{a0}").replace("−(", "−\u{2060}(")
}

/// A text of the person's, for HTML.
pub fn escaped(text: &str) -> String {
    html! { (text) }.into_string()
}

/// Language of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Language {
    /// English
    En,
    /// Chinese
    Zh,
}

/// The page's words in one language.
#[derive(Clone, Copy)]
pub struct Text(pub Language);

impl Text {
    fn pick<T>(self, english: T, chinese: T) -> T {
        match self.0 {
            Language::En => english,
            Language::Zh => chinese,
        }
    }

    fn html(self, english: impl Into<String>, chinese: impl Into<String>) -> Markup {
        PreEscaped(self.pick(english.into(), chinese.into()))
    }

    /// The language's code.
    pub fn lang(self) -> &'static str {
        self.pick("en", "zh-CN")
    }

    /// The number of a figure before its title.
    pub fn figure(self, number: &str, title: &str) -> String {
        self.pick(format!("Figure {number}. {title}"), format!("图 {number}　{title}"))
    }

    // Top.

    pub fn title(self) -> &'static str {
        self.pick("Why classification has its own loss", "分类为什么要用自己的损失函数")
    }

    pub fn lead(self, device: &str) -> Markup {
        let device = escaped(device);
        self.html(
            format!(
                "A lesson about softmax. Every number and every figure on this page comes from an experiment that \
                 softstep ran when it made the page, on {device}."
            ),
            format!(
                "一堂关于 softmax 的课。本页的每个数字、每幅图都来自 softstep 生成本页时在 {device} 上实际运行的实验。"
            ),
        )
    }

    pub fn steps_of_training(self) -> Markup {
        self.html(
            "A network learns in many small steps, and each of them is the same. <b>Forward</b>: compute the outputs. \
             <b>Loss</b>: one number that says how wrong they are. <b>Backward</b> and <b>update</b>: find how the \
             loss changes with every weight, and move every weight a little the other way. Only the loss says what is \
             to be learned, so it must suit the question. For a quantity, the right loss is the squared error. For a \
             class, the squared error of its number asks the wrong question; one output for each class asks the right \
             one.",
            "神经网络靠许多小步来学习，每一步都一样。<b>前向</b>：算出输出；<b>损失</b>：用一个数说明输出错了多少；\
             <b>反向与更新</b>：求出损失随每个权重怎样变化，再让每个权重朝相反方向挪一点。要学什么，全由损失函数说了算，\
             所以它必须适合所问的问题。学一个数量，用平方误差正合适；学一个类别，对类别编号用平方误差就问错了问题，\
             应当让每个类别各有一个输出。",
        )
    }

    pub fn tile_softmax(self) -> &'static str {
        self.pick("softmax of 3, 1, −3", "3、1、−3 的 softmax")
    }

    pub fn tile_boundary(self) -> &'static str {
        self.pick("a boundary, missed by a line / by a sigmoid", "分界点误差：直线 / sigmoid")
    }

    pub fn tile_number(self) -> &'static str {
        self.pick("digits right, learned as numbers", "把数字当数值来学的正确率")
    }

    pub fn tile_cross_entropy(self) -> &'static str {
        self.pick("digits right, learned as classes", "把数字当类别来学的正确率")
    }

    pub fn centimetres(self, length: f64) -> String {
        format!("{}\u{a0}cm", fixed(length, 2))
    }

    pub fn contents(self) -> &'static str {
        self.pick("Contents", "目录")
    }

    /// Heading of the runs of a section.
    pub fn was_run(self) -> &'static str {
        self.pick("What was run: ", "运行内容：")
    }

    // House prices.

    pub fn houses_title(self) -> &'static str {
        self.pick("A quantity: house prices", "学一个数量：房价")
    }

    pub fn houses_why(self) -> Markup {
        self.html(
            "A price is a real value: 300 lies between 290 and 310, and is nearer to both than to 400. Differences \
             mean something, so the network has one output, the price itself, and the loss is the <b>mean squared \
             error</b>, the mean of (output − price)<sup>2</sup>. That is <b>regression</b>. The squared error suits a \
             price: it pulls the output to the mean of all the prices that houses like this one were sold for.",
            "价格是实数：300 介于 290 与 310 之间，离这两者都比离 400 近。差值是有意义的，所以网络只要一个输出，就是价格本身；\
             损失用<b>均方误差</b>，即 (输出 − 价格)<sup>2</sup> 的平均值。这就是<b>回归</b>。平方误差在这里正合适：\
             同样的房子卖出过各种价钱，它会把输出拉向这些价钱的平均值。",
        )
    }

    pub fn houses_law(self, noise: f64, law: &str) -> Markup {
        let noise = fixed(noise, 0);
        self.html(
            format!(
                "So that we can check the answer, these houses follow a law that we know: {law} (price in thousands, area \
                 in m², age in years), plus noise with a standard deviation of {noise}. Training sees the houses, never \
                 the law."
            ),
            format!(
                "为了能核对答案，这些房子按一条已知的规律生成：{law}（价格单位为千元，面积单位为 m²，房龄单位为年），\
                 再加上标准差为 {noise} 的噪声。训练时只看得到房子，看不到规律。"
            ),
        )
    }

    pub fn houses_law_formula(self, base: f64, per_area: f64, per_year: f64) -> String {
        let (base, per_area, per_year) = (fixed(base, 0), fixed(per_area, 1), fixed(per_year, 1));
        self.pick(
            format!("<i>price</i> = {base} + {per_area} · <i>area</i> − {per_year} · <i>age</i>"),
            format!("<i>价格</i> = {base} + {per_area} · <i>面积</i> − {per_year} · <i>房龄</i>"),
        )
    }

    pub fn houses_table(self, houses: &Houses, file: &str) -> Markup {
        let (file, target) = (escaped(&html::name(file)), escaped(&html::name(&houses.target)));
        self.html(
            format!(
                "Here it is done with your table <code>{file}</code>: the value to learn is <code>{target}</code>."
            ),
            format!("这里用的是你的表格 <code>{file}</code>，要学的数值是 <code>{target}</code>。"),
        )
    }

    pub fn houses_found(self, houses: &Houses) -> Markup {
        let (rmse, deviation) = (quantity(houses.rmse, 3), quantity(houses.deviation, 3));
        let (test, r_squared) = (houses.test, houses.r_squared);
        let share = percent(r_squared);
        let explained = if r_squared >= 0.0 {
            self.pick(
                format!("the fit explains R² = {share} of the variance"),
                format!("拟合解释了 R² = {share} 的方差"),
            )
        } else if r_squared < 0.0 {
            let r_squared = quantity(r_squared, 2);
            self.pick(
                format!(
                    "the fit does worse than their mean would: R² = {r_squared}, where the mean has 0 and 1 is perfect"
                ),
                format!("拟合还不如总是回答它们的平均值：R² = {r_squared}（平均值为 0，完美为 1）"),
            )
        } else {
            self.pick(
                "there is no variance to explain, since their targets are all the same".into(),
                "没有方差可以解释，因为它们的目标值全都相同".into(),
            )
        };
        self.html(
            format!(
                "On {test} examples that it was not trained on, {explained}. It is off by {rmse} (the root of the mean \
                 squared error); the targets that it was trained on deviate from their mean by {deviation}."
            ),
            format!(
                "在 {test} 个没有参加训练的样本上，{explained}。它的均方根误差是 {rmse}；\
                 训练用的目标值与其平均值的均方根差是 {deviation}。"
            ),
        )
    }

    pub fn houses_noise(self, houses: &Houses) -> Markup {
        let (rmse, noise) = (quantity(houses.rmse, 3), fixed(houses.noise, 0));
        self.html(
            format!(" {rmse} is about the noise itself, {noise}: nothing more can be learned."),
            format!("{rmse} 已经和噪声本身的 {noise} 差不多：再没有更多可学的了。"),
        )
    }

    pub fn houses_by_area(self) -> &'static str {
        self.pick("Price by area", "价格与面积")
    }

    pub fn houses_by_area_summary(self) -> &'static str {
        self.pick(
            "Test houses as dots; the fitted lines for new and for 40-year-old houses lie on those of the law",
            "测试房屋为散点；新房与 40 年房龄的拟合直线与规律的直线重合",
        )
    }

    pub fn area_axis(self) -> &'static str {
        self.pick("area in m²", "面积（m²）")
    }

    pub fn test_houses(self) -> &'static str {
        self.pick("test houses", "测试房屋")
    }

    pub fn law(self) -> &'static str {
        self.pick("law", "规律")
    }

    pub fn fit_of_age(self, years: f64) -> String {
        self.pick(format!("fit, {years} years old"), format!("拟合，房龄 {years} 年"))
    }

    pub fn predicted_by_real(self) -> &'static str {
        self.pick("Predicted by real value", "预测值与真实值")
    }

    pub fn predicted_by_real_summary(self) -> &'static str {
        self.pick(
            "Each test example as a dot; a perfect prediction lies on the diagonal",
            "每个测试样本一个点；完美的预测落在对角线上",
        )
    }

    pub fn real_axis(self) -> &'static str {
        self.pick("real value", "真实值")
    }

    pub fn prediction(self) -> &'static str {
        self.pick("prediction", "预测")
    }

    pub fn perfect(self) -> &'static str {
        self.pick("perfect", "完美预测")
    }

    /// Says that one of every so many examples is drawn.
    pub fn every(self, every: usize) -> String {
        self.pick(format!("One of {every} test examples is drawn."), format!("每 {every} 个测试样本画出一个。"))
    }

    pub fn terms_caption(self) -> &'static str {
        self.pick("What was learned", "学到的系数")
    }

    pub fn terms_header(self) -> [&'static str; 3] {
        self.pick(["each unit of", "adds (fit)", "adds (law)"], ["每增加一个单位", "增加（拟合）", "增加（规律）"])
    }

    pub fn intercept(self) -> &'static str {
        self.pick("(all at 0)", "（全部为 0 时）")
    }

    pub fn at_means(self) -> &'static str {
        self.pick("(mean of the training part)", "（训练部分的平均）")
    }

    pub fn categories_note(self) -> &'static str {
        self.pick(
            "For a category, this is what the category adds to the mean of the training part.",
            "类别一栏是它相对于训练部分平均值的增减。",
        )
    }

    pub fn constants_note(self) -> &'static str {
        self.pick(
            "–: the training part has only one value, from which nothing can be learned.",
            "–：训练部分里只有一个值，学不到它的作用。",
        )
    }

    /// A column of the houses that follow the law, by its name in the table.
    pub fn house_column(self, name: &str) -> String {
        match name {
            "area" => self.pick("area (m²)", "面积（m²）").into(),
            "age" => self.pick("age (years)", "房龄（年）").into(),
            other => other.into(),
        }
    }

    pub fn more_terms(self, more: usize) -> String {
        self.pick(format!("{more} more are not shown."), format!("另有 {more} 项未列出。"))
    }

    pub fn houses_run(self, houses: &Houses) -> String {
        let Houses { train, test, epochs, batch_size, learning_rate, .. } = houses;
        self.pick(
            format!(
                "a linear model, mean squared error, {train} examples to train and {test} to test, {epochs} epochs, \
                 batches of {batch_size}, momentum 0.9, learning rate {learning_rate} falling by a cosine (the one of \
                 four rates with the lowest loss on a fifth of the training examples)."
            ),
            format!(
                "线性模型，均方误差，{train} 个训练样本、{test} 个测试样本，{epochs} 轮，每批 {batch_size} 个，动量 0.9，\
                 学习率从 {learning_rate} 起按余弦下降（从四个候选值中，取在五分之一训练样本上损失最低的一个）。"
            ),
        )
    }

    // Classes.

    pub fn classes_title(self) -> &'static str {
        self.pick("A class: handwritten digits", "学一个类别：手写数字")
    }

    pub fn classes_why(self) -> Markup {
        self.html(
            "What a picture of a digit shows is not a quantity. A 6 is not twice a 3; a 1 looks more like a 7 than \
             like a 2; and to take a 5 for a 6 is no smaller a mistake than to take it for a 1. The numbers are names, \
             and the difference between a name and a real output means nothing. This is <b>classification</b>.",
            "图片上的数字不是数量。6 不是 3 的两倍；1 长得更像 7 而不是 2；把 5 认成 6，并不比把 5 认成 1 错得轻。\
             这里的数字只是名字，拿一个名字去减一个实数输出，得到的差毫无意义。这就是<b>分类</b>。",
        )
    }

    pub fn classes_one_hot(self) -> Markup {
        self.html(
            "So the network gets one output for each class: the probability that the picture is of that class. The label \
             becomes ten probabilities, too: 1 for what it is, and 0 for the rest. Such a label is <b>one-hot</b>, and \
             now label and output can be compared. The first test pictures of some classes, with their labels:",
            "所以要让网络为每个类别给出一个输出：图片属于这一类的概率。标签也写成十个概率：是哪一类，哪一类就是 1，其余都是 0。\
             这种标签叫 <b>one-hot</b>（独热）标签，这样标签与输出就能相比了。下面是几个类别的第一张测试图片和它们的标签：",
        )
    }

    pub fn picture_of(self, label: u32) -> String {
        self.pick(format!("a handwritten {label}"), format!("手写的 {label}"))
    }

    // Observed labels.

    pub fn samples_title(self) -> &'static str {
        self.pick("Observed labels are samples", "观察到的标签是抽样")
    }

    pub fn samples_why(self) -> Markup {
        self.html(
            "Why probabilities? Of many tumours of 3 cm some are benign and others malignant: the size does not \
             decide, it makes one of them more likely. What is on record, though, is never the probability, only the \
             outcome: 0 (benign) or 1 (malignant). <b>A label is a sample of a probability.</b>",
            "为什么要用概率？许多 3 cm 的肿瘤里，有的是良性，有的是恶性：大小并不能决定结果，只是让其中一种更有可能。\
             而病历上从来没有概率，只有结果：0（良性）或 1（恶性）。<b>标签，就是按某个概率抽出来的一次样本。</b>",
        )
    }

    pub fn samples_law(self, tumours: &Tumours) -> Markup {
        let (boundary, width) = (fixed(tumours.boundary, 0), fixed(tumours.width, 1));
        let (count, group) = (tumours.samples.len(), tumours.group);
        let formula = unbroken(&format!("1 / (1 + e<sup>−(<i>x</i> − {boundary}) / {width}</sup>)"));
        self.html(
            format!(
                "Here the law is known, because we made it: at size <i>x</i> a tumour is malignant with probability \
                 {formula}, which is one half at {boundary} cm. For each of {count} sizes one label was drawn from it. \
                 The labels lie at 0 and at 1 only; the law shows again in the share of malignant ones among {group} \
                 tumours of similar size."
            ),
            format!(
                "这里的规律是已知的，因为它是我们定的：大小为 <i>x</i> 的肿瘤是恶性的概率为 {formula}，在 {boundary} cm \
                 处正好是 0.5。我们取 {count} 个大小，各按这个概率抽出一个标签。标签只落在 0 和 1 上；\
                 而在大小相近的 {group} 个肿瘤中恶性所占的比例里，规律又显现出来。"
            ),
        )
    }

    pub fn samples_figure(self) -> &'static str {
        self.pick("Labels, and the probability behind them", "标签，以及背后的概率")
    }

    pub fn samples_summary(self) -> &'static str {
        self.pick(
            "The law rises from 0 to 1 around 3 cm; labels lie at 0 and 1; the shares of groups follow the law",
            "规律在 3 cm 附近由 0 升到 1；标签落在 0 和 1；分组比例沿着规律走",
        )
    }

    pub fn size_axis(self) -> &'static str {
        self.pick("tumour size in cm", "肿瘤大小（cm）")
    }

    pub fn true_law(self) -> &'static str {
        self.pick("the true law", "真实规律")
    }

    pub fn labels(self) -> &'static str {
        self.pick("labels", "标签")
    }

    pub fn shares(self, group: usize) -> String {
        self.pick(format!("malignant share of {group}"), format!("每 {group} 个中恶性的比例"))
    }

    // Softmax.

    pub fn softmax_title(self) -> &'static str {
        self.pick("Softmax makes probabilities of scores", "softmax 把分数变成概率")
    }

    pub fn softmax_why(self) -> Markup {
        self.html(
            "A network's last layer gives any real numbers, one for each class: <b>scores</b>. Softmax makes probabilities \
             of them. It takes e to the power of each score, which is above 0, and divides by the sum, so that the \
             results lie in 0..1 and sum to 1:",
            "网络最后一层给出的是任意实数，每个类别一个，叫作<b>分数</b>。softmax 把它们变成概率：先对每个分数取 e 的幂，\
             结果必为正；再除以总和，于是都落在 0 到 1 之间，加起来等于 1：",
        )
    }

    pub fn softmax_formula() -> Markup {
        PreEscaped(unbroken(
            "<i>p<sub>i</sub></i> = e<sup><i>z<sub>i</sub></i></sup> / (e<sup><i>z</i><sub>1</sub></sup> + \
             e<sup><i>z</i><sub>2</sub></sup> + … )",
        ))
    }

    pub fn softmax_result(self, softmax: &Softmax) -> Markup {
        let p: Vec<String> = softmax.probabilities.iter().map(|&p| fixed(p, 2)).collect();
        let sum = fixed(softmax.probabilities.iter().sum(), 2);
        let distance =
            softmax.probabilities.iter().zip(&softmax.shifted).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        let unchanged = if distance == 0.0 {
            self.pick("no probability changed at all".into(), "各个概率丝毫未变".into())
        } else {
            let distance = small(distance);
            self.pick(
                format!("no probability changed by more than {distance}"),
                format!("各个概率的变化都不超过 {distance}"),
            )
        };
        self.html(
            format!(
                "Scores of 3, 1 and −3 become {}, {} and {}, together {sum}. The largest score wins, clearly but not \
                 absolutely: that is why it is called <i>soft</i>max. Only differences of scores count: with 10 added to \
                 each of them, {unchanged}.",
                p[0], p[1], p[2]
            ),
            format!(
                "分数 3、1、−3 变成 {}、{}、{}，合计 {sum}。最大的分数明显胜出，但不是绝对胜出，所以叫 \
                 <i>soft</i>max（“软”最大值）。起作用的只是分数之间的差：给每个分数都加上 10，{unchanged}。",
                p[0], p[1], p[2]
            ),
        )
    }

    pub fn softmax_loss(self, softmax: &Softmax) -> Markup {
        let [first, third] = [0, 2].map(|class| logarithm(softmax.probabilities[class], softmax.losses[class], 2));
        self.html(
            format!(
                "The loss that goes with it is the <b>cross-entropy</b>: −ln of the probability that the label's class \
                 got. If the first class is right, that is {first}; if it is the third, {third}. Being sure and wrong \
                 is expensive."
            ),
            format!(
                "与它相配的损失是<b>交叉熵</b>：取标签那一类得到的概率，求 −ln。如果第一类是对的，损失是 {first}；\
                 如果第三类才对，就是 {third}。错得越自信，代价越大。"
            ),
        )
    }

    pub fn scores(self) -> &'static str {
        self.pick("Scores", "分数")
    }

    pub fn probabilities(self) -> &'static str {
        self.pick("Probabilities", "概率")
    }

    pub fn classes_axis(self) -> &'static str {
        self.pick("class", "类别")
    }

    pub fn scores_summary(self) -> &'static str {
        self.pick("One bar for each class: 3, 1 and −3", "每个类别一根柱：3、1、−3")
    }

    pub fn probabilities_summary(self) -> &'static str {
        self.pick("One bar for each class, between 0 and 1", "每个类别一根柱，都在 0 到 1 之间")
    }

    pub fn softmax_run(self) -> &'static str {
        self.pick(
            "a model whose weights are 0 and whose bias is the three scores; probabilities and losses are the backend's.",
            "一个权重全为 0、偏置就是这三个分数的模型；概率与损失都由计算后端给出。",
        )
    }

    // Two classes.

    pub fn two_title(self) -> &'static str {
        self.pick("Two classes: softmax is a sigmoid", "只有两类时：softmax 就是 sigmoid")
    }

    pub fn two_why(self) -> Markup {
        self.html("With two classes, divide the fraction by its numerator:", "只有两个类别时，把分子分母同除以分子：")
    }

    pub fn two_formula() -> Markup {
        let steps = [
            "<i>p</i><sub>1</sub>",
            "e<sup><i>z</i><sub>1</sub></sup> / (e<sup><i>z</i><sub>0</sub></sup> + e<sup><i>z</i><sub>1</sub></sup>)",
            "1 / (1 + e<sup>−(<i>z</i><sub>1</sub> − <i>z</i><sub>0</sub>)</sup>)",
            "sigmoid(<i>z</i><sub>1</sub> − <i>z</i><sub>0</sub>)",
        ];
        PreEscaped(steps.map(unbroken).join(" =\u{a0}"))
    }

    pub fn two_result(self, two: &TwoClasses) -> Markup {
        let example = fixed(two.example, 3);
        let [[softmax_0, softmax_1], [sigmoid_0, sigmoid_1]] =
            [0, 1].map(|kind| [0, 1].map(|class| fixed(two.example_probabilities[kind][class], 2)));
        let distance = small(two.distance);
        self.html(
            format!(
                "So one output is enough: the difference of the two scores. A difference of {example} gives {softmax_1} and \
                 {softmax_0} by softmax, and {sigmoid_1} and {sigmoid_0} by the sigmoid. A label needs one number, too: \
                 “0.6 of this, 0.4 of that” is one label with probability 0.6. Over the whole range of figure 4 the two \
                 differ by no more than {distance}."
            ),
            format!(
                "所以一个输出就够了，它就是两个分数之差。分数相差 {example} 时，softmax 给出 {softmax_1} 和 {softmax_0}，\
                 sigmoid 给出 {sigmoid_1} 和 {sigmoid_0}。标签也只需要一个数：“0.6 是这类，0.4 是那类”就是一个概率为 0.6 \
                 的标签。在图 4 的整个范围内，两者相差不超过 {distance}。"
            ),
        )
    }

    pub fn two_trained(self, two: &TwoClasses) -> Markup {
        let (distance, [softmax, sigmoid]) = (small(two.trained_distance), two.rates);
        self.html(
            format!(
                "They also learn the same. Two models were trained on the tumours above from equivalent starts: two outputs \
                 with softmax and cross-entropy at learning rate {softmax}, and one output with a sigmoid and binary \
                 cross-entropy at {sigmoid}. (Of two scores each moves, in opposite directions, so their difference moves \
                 twice as far in a step.) After training, their probabilities differ by no more than {distance}."
            ),
            format!(
                "它们学到的东西也一样。用上面的肿瘤数据，从等价的起点训练两个模型：一个是两个输出、softmax 加交叉熵，学习率 \
                 {softmax}；另一个是一个输出、sigmoid 加二元交叉熵，学习率 {sigmoid}。（两个分数每步各自朝相反方向移动，\
                 所以它们的差每步走两倍远。）训练之后，两者的概率相差不超过 {distance}。"
            ),
        )
    }

    pub fn two_over_range(self) -> &'static str {
        self.pick("Probability by the difference of scores", "概率与分数之差")
    }

    pub fn two_over_range_summary(self) -> &'static str {
        self.pick(
            "The dots of softmax over two outputs lie on the curve of the sigmoid",
            "两个输出的 softmax 的各点都落在 sigmoid 曲线上",
        )
    }

    pub fn difference_axis(self) -> &'static str {
        self.pick("difference of scores, z₁ − z₀", "分数之差 z₁ − z₀")
    }

    pub fn two_after_training(self) -> &'static str {
        self.pick("Probability after training, by tumour size", "训练之后的概率与肿瘤大小")
    }

    pub fn softmax_of_two(self) -> &'static str {
        self.pick("softmax, two outputs", "softmax，两个输出")
    }

    pub fn sigmoid_of_one(self) -> &'static str {
        self.pick("sigmoid, one output", "sigmoid，一个输出")
    }

    // Line against sigmoid.

    pub fn fits_title(self) -> &'static str {
        self.pick("A line misses what a sigmoid finds", "直线找不到的，sigmoid 找得到")
    }

    pub fn fits_why(self, tumours: &Tumours) -> Markup {
        let [low, high] = tumours.line.outputs.map(|output| fixed(output, 2));
        self.html(
            format!(
                "Back to the tumours. A straight line, fitted to the labels 0 and 1 by mean squared error, treats them as \
                 quantities. But a line cannot stay in 0..1: for these sizes it gives “probabilities” from {low} to {high}. \
                 And it is punished for that: where it says {high} and the label is 1, it is on the right side and yet \
                 pays for the difference. To pay less it lies flatter, and its boundary, where it says one half, moves \
                 towards the large tumours, which were never in doubt."
            ),
            format!(
                "回到肿瘤的例子。用均方误差让一条直线去拟合 0 和 1 的标签，等于把标签当成了数量。可是直线没法待在 0 到 1 \
                 之间：在这些大小上，它给出的“概率”从 {low} 到 {high}。它还要为此受罚：输出 {high}、标签为 1 时，\
                 明明判断正确，仍要为这个差值付出代价。为了少受罚，直线只好躺得更平，于是它的分界点（输出为 0.5 的地方）\
                 被那些毫无疑问的大肿瘤拉偏了。"
            ),
        )
    }

    pub fn fits_result(self, tumours: &Tumours) -> Markup {
        let [line, sigmoid] = [&tumours.line, &tumours.sigmoid];
        let (law, [at_line, at_sigmoid]) =
            (fixed(tumours.boundary, 2), [line, sigmoid].map(|fit| fixed(fit.boundary, 2)));
        let [off_line, off_sigmoid] = [line, sigmoid].map(|fit| fixed(fit.boundary_error, 2));
        self.html(
            format!(
                "The sigmoid, fitted by cross-entropy, is flat where there is no doubt and steep where there is. Its \
                 boundary is at {at_sigmoid} cm, {off_sigmoid} cm from the law's {law} cm; the line's is at {at_line} cm, \
                 {off_line} cm away. The labels alone never show the law, and yet it was found."
            ),
            format!(
                "用交叉熵拟合的 sigmoid，在没有疑问的地方是平的，在有疑问的地方是陡的。它的分界点在 {at_sigmoid} cm，\
                 与规律的 {law} cm 只差 {off_sigmoid} cm；直线的分界点在 {at_line} cm，差了 {off_line} cm。\
                 标签本身从不显示规律，规律却被找到了。"
            ),
        )
    }

    pub fn fits_figure(self) -> &'static str {
        self.pick("Both fits, and the true law behind them", "两种拟合，背后是真实规律")
    }

    pub fn fits_summary(self, tumours: &Tumours) -> String {
        let ends = |fit: &Fit| [fit.curve.first(), fit.curve.last()].map(|end| end.map_or(f64::NAN, |end| end[1]));
        let [[line_low, line_high], [low, high]] =
            [&tumours.line, &tumours.sigmoid].map(|fit| ends(fit).map(|output| fixed(output, 2)));
        let [line, sigmoid, law] =
            [tumours.line.boundary, tumours.sigmoid.boundary, tumours.boundary].map(|size| fixed(size, 2));
        self.pick(
            format!(
                "The line runs from {line_low} to {line_high} and is at 0.5 at {line} cm; the sigmoid runs from {low} to \
                 {high} and is at 0.5 at {sigmoid} cm, the law at {law} cm"
            ),
            format!(
                "直线从 {line_low} 到 {line_high}，在 {line} cm 处为 0.5；sigmoid 从 {low} 到 {high}，在 {sigmoid} cm 处为 0.5，\
                 规律则在 {law} cm 处"
            ),
        )
    }

    pub fn line(self) -> &'static str {
        self.pick("line, mean squared error", "直线，均方误差")
    }

    pub fn sigmoid(self) -> &'static str {
        self.pick("sigmoid, cross-entropy", "sigmoid，交叉熵")
    }

    pub fn fits_caption(self) -> &'static str {
        self.pick("The two fits in numbers", "两种拟合的数字")
    }

    pub fn fits_header(self) -> [&'static str; 3] {
        self.pick(["", "line", "sigmoid"], ["", "直线", "sigmoid"])
    }

    pub fn fits_rows(self) -> [&'static str; 5] {
        self.pick(
            [
                "boundary (cm)",
                "its error (cm)",
                "mean distance from the law",
                "lowest and highest output",
                "labels on the wrong side",
            ],
            ["分界点（cm）", "分界点误差（cm）", "与规律的平均距离", "最低与最高输出", "判错的标签数"],
        )
    }

    pub fn fits_run(self, tumours: &Tumours) -> String {
        let Tumours { steps, line, sigmoid, samples, .. } = tumours;
        let (count, line, sigmoid) = (samples.len(), line.learning_rate, sigmoid.learning_rate);
        self.pick(
            format!(
                "{count} sizes, the same for both; one weight and one bias; {steps} steps with batches of 20, momentum 0.9, \
                 learning rates {line} (line) and {sigmoid} (sigmoid) falling by a cosine. The law itself was computed by \
                 the same backend, as a model with known weights."
            ),
            format!(
                "两者用同样的 {count} 个大小；各有一个权重和一个偏置；{steps} 步，每批 20 个，动量 0.9，学习率 {line}（直线）和 \
                 {sigmoid}（sigmoid）按余弦下降。规律本身也是同一后端算出的，即一个权重已知的模型。"
            ),
        )
    }

    // Three losses.

    pub fn digits_title(self) -> &'static str {
        self.pick("The same digits with three losses", "同样的数字，三种损失")
    }

    pub fn digits_why(self, digits: &Digits) -> Markup {
        let (train, test) = (digits.train, digits.test);
        self.html(
            format!(
                "Does it matter in practice? Three models learn the same {train} digits in the same number of steps, in the \
                 same order, and are tested on {test} others. The first has one output and learns the <b>class number</b> \
                 by mean squared error; its answer is the nearest class. The second has ten outputs and learns \
                 <b>one-hot</b> labels by mean squared error. The third puts softmax over ten outputs and learns by \
                 <b>cross-entropy</b>."
            ),
            format!(
                "这在实际中要紧吗？让三个模型用同样的步数、同样的顺序学同样的 {train} 个数字，再用另外 {test} 个来测试。\
                 第一个只有一个输出，用均方误差学<b>类别编号</b>，回答是最接近的类别；第二个有十个输出，用均方误差学 \
                 <b>one-hot 标签</b>；第三个在十个输出上加 softmax，用<b>交叉熵</b>学习。"
            ),
        )
    }

    pub fn digits_result(self, digits: &Digits) -> Markup {
        let [number, one_hot, cross_entropy] = [&digits.number, &digits.one_hot, &digits.cross_entropy];
        let points = fixed(100.0 * (cross_entropy.accuracy() - number.accuracy()), 1);
        let [number_right, one_hot_right, cross_entropy_right] =
            [number, one_hot, cross_entropy].map(|run| percent(run.accuracy()));
        let [number_wrong, cross_entropy_wrong] = [number.wrong, cross_entropy.wrong];
        let beside = self.one_hot_beside(one_hot.wrong, cross_entropy_wrong);
        self.html(
            format!(
                "Learning the class number gets {number_right} of the test digits right; one-hot labels get \
                 {one_hot_right}, and cross-entropy {cross_entropy_right}. <b>The class number costs {points} \
                 percentage points</b>: {number_wrong} digits wrong instead of {cross_entropy_wrong}. What matters \
                 most is to ask for classes. One-hot labels work with the squared error, too, which draws each output \
                 towards 0 or 1; but these outputs are not probabilities: they may leave 0..1, and nothing makes them \
                 sum to 1. {beside}"
            ),
            format!(
                "当作数值来学，测试数字的正确率是 {number_right}；学 one-hot 标签，是 {one_hot_right}；用交叉熵，是 \
                 {cross_entropy_right}。<b>学类别编号，正确率低了 {points} 个百分点</b>：错了 {number_wrong} 个，\
                 而交叉熵错了 {cross_entropy_wrong} 个。最要紧的是按类别来问：one-hot 标签配平方误差也行得通，它把每个输出拉向 0 或 1；\
                 但这样的输出不是概率：它们可以超出 0 到 1，加起来也不必等于 1。{beside}"
            ),
        )
    }

    /// Compares the digits that squared error on one-hot labels and cross-entropy got wrong.
    fn one_hot_beside(self, one_hot: usize, cross_entropy: usize) -> String {
        let more = one_hot.abs_diff(cross_entropy);
        // Counts of rare mistakes vary by about their root; so this is less than two deviations of the difference.
        let chance = if more * more <= 4 * (one_hot + cross_entropy) {
            self.pick(", a difference that may be chance", "，这点差别可能只是偶然")
        } else {
            ""
        };
        match one_hot.cmp(&cross_entropy) {
            Ordering::Equal => self.pick(
                format!("One-hot labels got {one_hot} digits wrong, as many as cross-entropy."),
                format!("one-hot 标签错了 {one_hot} 个，与交叉熵一样多。"),
            ),
            Ordering::Less => self.pick(
                format!("One-hot labels got {one_hot} digits wrong, {more} fewer than cross-entropy{chance}."),
                format!("one-hot 标签错了 {one_hot} 个，比交叉熵少 {more} 个{chance}。"),
            ),
            Ordering::Greater => self.pick(
                format!("One-hot labels got {one_hot} digits wrong, {more} more than cross-entropy{chance}."),
                format!("one-hot 标签错了 {one_hot} 个，比交叉熵多 {more} 个{chance}。"),
            ),
        }
    }

    pub fn digits_reason(self) -> Markup {
        self.html(
            "Figure 6b shows why. When a picture may be a 1 or a 9, the best number for the squared error is the mean, \
             5, which is neither; so the outputs of every class are spread over their neighbours. Ten probabilities \
             can say “1 or 9” without saying 5.",
            "图 6b 说明了原因。如果拿不准是 1 还是 9，对平方误差来说最好的回答是平均数 5，而它两者都不是；\
             于是每一类的输出都散到了邻近的类别上。十个概率却可以说“不是 1 就是 9”，而不必说 5。",
        )
    }

    pub fn accuracy_figure(self) -> &'static str {
        self.pick("Test accuracy", "测试正确率")
    }

    pub fn accuracy_summary(self) -> &'static str {
        self.pick(
            "One curve for each loss; the class number stays far below the other two",
            "每种损失一条曲线；类别编号远低于另外两条",
        )
    }

    pub fn epoch_axis(self) -> &'static str {
        self.pick("epoch", "轮数")
    }

    pub fn numbers_figure(self) -> &'static str {
        self.pick("Output by true class, learned as a number", "按数值学习时，输出与真实类别")
    }

    pub fn numbers_summary(self) -> &'static str {
        self.pick(
            "For every class the outputs spread over several whole numbers around the diagonal",
            "每一类的输出都散布在对角线附近的好几个整数上",
        )
    }

    pub fn true_class_axis(self) -> &'static str {
        self.pick("true class", "真实类别")
    }

    pub fn outputs(self) -> &'static str {
        self.pick("output", "输出")
    }

    pub fn loss_names(self) -> [&'static str; 3] {
        self.pick(
            ["class number, squared error", "one-hot, squared error", "softmax, cross-entropy"],
            ["类别编号，均方误差", "one-hot，均方误差", "softmax，交叉熵"],
        )
    }

    pub fn loss_figure(self, of: &str) -> String {
        self.pick(format!("Loss: {of}"), format!("损失：{of}"))
    }

    pub fn loss_summary(self, losses: &[f64]) -> String {
        let [first, last] = [losses.first(), losses.last()].map(|loss| quantity(loss.copied().unwrap_or(f64::NAN), 3));
        self.pick(
            format!("The loss goes from {first} in the first step to {last} in the last"),
            format!("第一步的损失为 {first}，最后一步为 {last}"),
        )
    }

    pub fn loss_note(self) -> Markup {
        self.html(
            "Each loss has its own unit, so only its own fall can be read from it: squared class numbers, squared \
             distances from 0 and 1, nats.",
            "三种损失单位不同，只能各看各的下降：类别编号之差的平方、与 0 和 1 之差的平方、奈特（nat）。",
        )
    }

    pub fn training(self) -> &'static str {
        self.pick("training, by step", "训练，每步")
    }

    pub fn test(self) -> &'static str {
        self.pick("test, by epoch", "测试，每轮")
    }

    pub fn step_axis(self) -> &'static str {
        self.pick("step", "步数")
    }

    pub fn digits_caption(self) -> &'static str {
        self.pick("Accuracy by loss and model", "各损失与模型的正确率")
    }

    pub fn digits_header(self) -> [&'static str; 4] {
        self.pick(
            ["loss", "linear model", "32 hidden (tanh)", "learning rates"],
            ["损失", "线性模型", "隐藏层 32（tanh）", "学习率"],
        )
    }

    pub fn digits_hidden(self, linear: &Digits, hidden: &Digits) -> Markup {
        let [number, one_hot, cross_entropy] =
            [&hidden.number, &hidden.one_hot, &hidden.cross_entropy].map(|run| percent(run.accuracy()));
        let of_line = percent(linear.number.accuracy());
        let beside = self.one_hot_beside(hidden.one_hot.wrong, hidden.cross_entropy.wrong);
        self.html(
            format!(
                "Is the straight line to blame? A model with a hidden layer can bend. It gets {number} right as a \
                 number (the linear model {of_line}), and {cross_entropy} by cross-entropy. With one-hot labels and \
                 the squared error it gets {one_hot}. {beside}"
            ),
            format!(
                "会不会只是因为模型是线性的？带隐藏层的模型更灵活：学数值，正确率是 {number}（线性模型是 {of_line}），\
                 用交叉熵则是 {cross_entropy}。用 one-hot 标签和平方误差，是 {one_hot}。{beside}"
            ),
        )
    }

    pub fn pictures_lead(self) -> Markup {
        self.html(
            "The first test picture of each class: what the number model says, and the two largest probabilities of the \
             cross-entropy model (both linear).",
            "每一类的第一张测试图片：数值模型的回答，以及交叉熵模型最大的两个概率（都是线性模型）。",
        )
    }

    pub fn as_number(self, number: f64) -> String {
        let number = fixed(number, 1);
        self.pick(format!("as a number: {number}"), format!("当作数值：{number}"))
    }

    pub fn digits_run(self, digits: &Digits) -> Markup {
        let Digits { epochs, batch_size, steps, rates, .. } = digits;
        let rates = rates.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let rate = digits.cross_entropy.learning_rate;
        self.html(
            format!(
                "8×8 pictures from the UCI optical digits, bundled with softstep; {epochs} epochs of batches of \
                 {batch_size}, {steps} steps, momentum 0.9, learning rate falling by a cosine. So that each loss has the \
                 learning rate that suits it, each was trained at {rates} on four fifths of the training digits, and the \
                 rate that got most of the last fifth right was taken. The cross-entropy run is <code>softstep train --data \
                 digits --epochs {epochs} --lr {rate}</code> with this page's seed; with <code>--loss mse</code> and its \
                 rate it is the one-hot run."
            ),
            format!(
                "图片为 softstep 内置的 UCI 手写数字（8×8）；{epochs} 轮，每批 {batch_size} 个，共 {steps} 步，动量 0.9，\
                 学习率按余弦下降。为了公平，每种损失都用 {rates} 各在五分之四的训练数字上训练一次，\
                 取在其余五分之一上答对最多的学习率。交叉熵的这次运行等同于用本页的种子执行 \
                 <code>softstep train --data digits --epochs {epochs} --lr {rate}</code>；加上 <code>--loss mse</code> 和相应的学习率，就是 one-hot 的那次。"
            ),
        )
    }

    // One step.

    pub fn step_title(self) -> &'static str {
        self.pick("One training step, with every number", "一步训练的全部数字")
    }

    pub fn step_lead(self) -> Markup {
        self.html(
            "What softstep does thousands of times, done once, and small enough to check with a pocket calculator: three \
             examples <i>a</i>, <i>b</i>, <i>c</i> with two features, three classes, six weights and three \
             biases.",
            "softstep 要做成千上万次的事，这里只做一次，小到可以用计算器验算：三个样本 <i>a</i>、<i>b</i>、<i>c</i>，\
             每个两个特征，三个类别，六个权重和三个偏置。",
        )
    }

    pub fn step_forward(self, step: &OneStep) -> Markup {
        let n = |number: f64| factor(number, 1);
        let sum = format!(
            "{} · {} + {} · {} + 1 · {} = {}",
            n(step.inputs.at(0, 0)),
            n(step.weights.at(0, 0)),
            n(step.inputs.at(0, 1)),
            n(step.weights.at(1, 0)),
            n(step.weights.at(2, 0)),
            fixed(step.scores.at(0, 0), 2)
        );
        self.html(
            format!(
                "<b>1. Forward.</b> Every score is a sum of features times weights; the last row of the weights is the bias, \
                 which meets a constant 1. The score of <i>a</i> for class 0: {sum}. Softmax makes probabilities of each \
                 row of scores."
            ),
            format!(
                "<b>1. 前向。</b>每个分数都是特征乘以权重再求和；权重的最后一行是偏置，与它相乘的输入总是 1。样本 <i>a</i> 在类别 \
                 0 上的分数：{sum}。softmax 再把每一行分数变成概率。"
            ),
        )
    }

    pub fn step_loss(self, step: &OneStep) -> Markup {
        let label = step.labels[0];
        let first = logarithm(step.probabilities.at(0, label as usize), step.losses[0], 4);
        let all = step.losses.iter().map(|&loss| fixed(loss, 4)).collect::<Vec<_>>().join(" + ");
        let mean = equals(step.losses.iter().map(|&loss| as_printed(loss, 4)).sum::<f64>() / 3.0, step.loss, 4);
        self.html(
            format!(
                "<b>2. Loss.</b> Of each row only the label's probability counts: for <i>a</i>, whose label is {label}, \
                 {first}. The loss of the batch is the mean: ({all}) / 3 {mean}."
            ),
            format!(
                "<b>2. 损失。</b>每一行只看标签那一类的概率：样本 <i>a</i> 的标签是 {label}，损失为 {first}。\
                 整批的损失是平均值：({all}) / 3 {mean}。"
            ),
        )
    }

    pub fn step_backward(self, step: &OneStep) -> Markup {
        let sum = (0..3)
            .map(|row| format!("{} · {}", factor(step.inputs.at(row, 0), 1), factor(step.errors.at(row, 0), 4)))
            .collect::<Vec<_>>()
            .join(" + ");
        let of_printed: f64 = (0..3).map(|row| step.inputs.at(row, 0) * as_printed(step.errors.at(row, 0), 4)).sum();
        let gradient = equals(of_printed / 3.0, step.gradient.at(0, 0), 4);
        self.html(
            format!(
                "<b>3. Backward.</b> Here softmax and cross-entropy pay off: the change of the loss with the scores is \
                 simply <i>p</i> − one-hot, the predicted probability minus the true one. For a weight, multiply that \
                 by the feature it meets and take the mean over the batch. The first weight: ({sum}) / 3 {gradient}."
            ),
            format!(
                "<b>3. 反向。</b>softmax 与交叉熵配在一起的好处在这里显现：损失对分数的导数就是 <i>p</i> − one-hot，\
                 即“说的”减去“真的”。要得到某个权重的梯度，把它乘上与该权重相遇的特征，再对整批取平均。第一个权重：({sum}) / 3 {gradient}。"
            ),
        )
    }

    pub fn step_update(self, step: &OneStep) -> Markup {
        let rate = step.learning_rate;
        let sum = format!(
            "{} − {rate} · {} {}",
            fixed(step.weights.at(0, 0), 1),
            factor(step.gradient.at(0, 0), 4),
            equals(
                step.weights.at(0, 0) - f64::from(rate) * as_printed(step.gradient.at(0, 0), 4),
                step.updated.at(0, 0),
                4
            )
        );
        self.html(
            format!(
                "<b>4. Update.</b> Every weight moves against its gradient, by the learning rate {rate}. The first: {sum}."
            ),
            format!("<b>4. 更新。</b>每个权重按学习率 {rate} 逆着自己的梯度移动。第一个：{sum}。"),
        )
    }

    pub fn step_after(self, step: &OneStep) -> Markup {
        let (before, after) = (fixed(step.loss, 4), fixed(step.next_loss, 4));
        let (steps, last) = (step.curve.len(), fixed(step.curve.last().copied().unwrap_or(f64::NAN), 4));
        self.html(
            format!(
                "With the new weights the loss is {after} instead of {before}. Then it all starts again: figure 7 has {steps} \
                 such steps, with a loss of {last} in the last."
            ),
            format!(
                "换上新权重，损失从 {before} 变成 {after}。然后一切重新开始：图 7 是连续 {steps} 步，最后一步的损失是 {last}。"
            ),
        )
    }

    pub fn step_figure(self) -> &'static str {
        self.pick("Loss of the tiny batch, step by step", "小批样本的损失，逐步变化")
    }

    pub fn step_headers(self) -> StepHeaders {
        self.pick(
            StepHeaders {
                inputs: "Features and labels",
                features: ["x1", "x2"],
                label: "label",
                weights: "Weights before",
                rows: ["x1", "x2", "bias"],
                scores: "Scores",
                probabilities: "Probabilities p",
                one_hot: "One-hot labels",
                errors: "p − one-hot",
                losses: "Losses −ln p",
                loss: "loss",
                gradient: "Gradient",
                updated: "Weights after",
                updated_probabilities: "Probabilities after",
                class: "class",
            },
            StepHeaders {
                inputs: "特征与标签",
                features: ["x1", "x2"],
                label: "标签",
                weights: "更新前的权重",
                rows: ["x1", "x2", "偏置"],
                scores: "分数",
                probabilities: "概率 p",
                one_hot: "one-hot 标签",
                errors: "p − one-hot",
                losses: "损失 −ln p",
                loss: "损失",
                gradient: "梯度",
                updated: "更新后的权重",
                updated_probabilities: "更新后的概率",
                class: "类别",
            },
        )
    }

    pub fn step_run(self) -> &'static str {
        self.pick(
            "plain SGD; scores, probabilities, losses and the weights after the step are read from the backend, and the \
             gradient is (weights before − weights after) / learning rate.",
            "普通 SGD；分数、概率、损失和更新后的权重都从计算后端读回，梯度为（更新前的权重 − 更新后的权重）/ 学习率。",
        )
    }

    // How the page was made.

    pub fn made_title(self) -> &'static str {
        self.pick("How this page was made", "本页是怎样生成的")
    }

    pub fn made_names(self) -> [&'static str; 9] {
        self.pick(
            ["computed on", "kind", "driver", "backend", "softstep", "seed", "made", "experiments took", "command"],
            ["运行设备", "类型", "驱动", "后端", "softstep 版本", "随机种子", "生成时间", "实验用时", "命令"],
        )
    }

    pub fn seconds(self, seconds: f64) -> String {
        self.pick(format!("{} s", fixed(seconds, 1)), format!("{} 秒", fixed(seconds, 1)))
    }

    pub fn made_note(self) -> Markup {
        self.html(
            "The same seed on the same device gives the same numbers; another device rounds differently, another seed draws \
             other houses, tumours and starting weights. The page needs nothing but itself: no script, no network.",
            "同一设备上用同一个种子，得到的数字完全相同；换一台设备，舍入会略有不同；换一个种子，房子、肿瘤和初始权重都会不同。\
             本页自成一体，不含脚本，也不访问网络。",
        )
    }
}

/// The headers of the tables of one step.
pub struct StepHeaders {
    pub inputs: &'static str,
    pub features: [&'static str; 2],
    pub label: &'static str,
    pub weights: &'static str,
    pub rows: [&'static str; 3],
    pub scores: &'static str,
    pub probabilities: &'static str,
    pub one_hot: &'static str,
    pub errors: &'static str,
    pub losses: &'static str,
    pub loss: &'static str,
    pub gradient: &'static str,
    pub updated: &'static str,
    pub updated_probabilities: &'static str,
    pub class: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_hot_labels_are_ahead_or_behind_as_it_came_out() {
        let text = Text(Language::En);
        assert_eq!(
            text.one_hot_beside(10, 12),
            "One-hot labels got 10 digits wrong, 2 fewer than cross-entropy, a difference that may be chance."
        );
        assert_eq!(text.one_hot_beside(40, 14), "One-hot labels got 40 digits wrong, 26 more than cross-entropy.");
        assert_eq!(text.one_hot_beside(7, 7), "One-hot labels got 7 digits wrong, as many as cross-entropy.");
        assert_eq!(Text(Language::Zh).one_hot_beside(40, 14), "one-hot 标签错了 40 个，比交叉熵多 26 个。");
    }

    #[test]
    fn the_page_in_a_browser_tab_has_the_same_words_where_it_says_the_same() {
        let page = include_str!("../../web/index.html");
        for text in [Text(Language::En), Text(Language::Zh)] {
            let headings = [
                text.title(),
                text.houses_title(),
                text.classes_title(),
                text.samples_title(),
                text.softmax_title(),
                text.two_title(),
                text.fits_title(),
                text.digits_title(),
                text.step_title(),
            ];
            let paragraphs = [
                text.steps_of_training(),
                text.houses_why(),
                text.classes_why(),
                text.classes_one_hot(),
                text.samples_why(),
                text.softmax_why(),
                text.two_why(),
            ];
            let paragraphs = paragraphs.into_iter().map(Markup::into_string);
            for words in headings.map(String::from).into_iter().chain(paragraphs) {
                let whole = format!("<span lang=\"{}\">{words}</span>", text.lang());
                assert!(page.contains(&whole), "src/web/index.html lacks {whole}");
            }
        }
    }

    #[test]
    fn printed_arithmetic_is_true_as_printed() {
        assert_eq!(logarithm(0.0021785, 6.12911, 2), "−ln\u{a0}0.00218 = 6.13");
        assert_eq!(logarithm(0.8788782, 0.129109, 2), "−ln\u{a0}0.8789 = 0.13");
        // Not even eight digits of p make it the loss: the device rounded.
        assert_eq!(logarithm(0.5, 0.6932, 4), "−ln\u{a0}0.5000 ≈ 0.6932");
        assert_eq!(equals(0.30004, 0.29996, 4), "= 0.3000");
        assert_eq!(equals(-0.25, -0.2501, 4), "≈ −0.2501");
    }

    #[test]
    fn numbers_have_true_signs_and_no_negative_zero() {
        assert_eq!((fixed(-0.004, 2), fixed(-1.25, 1), fixed(2.0, 0)), ("0.00".into(), "−1.2".into(), "2".into()));
        assert_eq!((small(1.24e-7), small(0.0)), ("1.2 × 10<sup>−7</sup>".into(), "0".into()));
        assert_eq!((fixed(f64::NAN, 2), percent(f64::NEG_INFINITY)), ("–".into(), "– %".into()));
        assert_eq!(percent(0.9637), "96.4 %");
        assert_eq!((factor(-0.3, 1), factor(0.3, 1), factor(-0.04, 1)), ("(−0.3)".into(), "0.3".into(), "0.0".into()));
        let quantities = [0.0, f64::NAN, 19.774, -9734.3, 8.77e23, -2.0e17, 6.518e-12].map(|value| quantity(value, 3));
        let said = ["0", "–", "19.8", "−9,730", "8.77 × 10²³", "−2 × 10¹⁷", "6.52 × 10⁻¹²"];
        assert_eq!(quantities.map(|quantity| quantity.replace('\u{a0}', " ")), said);
        assert_eq!(escaped("<b>&"), "&lt;b&gt;&amp;");
    }
}
