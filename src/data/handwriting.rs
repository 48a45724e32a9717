//! Normalisation of a picture of a digit to the style of a data set: bright ink on black, of fixed size and position.
//!
//! Ink is whatever is thinner than the paper around it. Closing the image with a window wider than any line removes
//! dark lines and leaves the paper with its light and shadows, so the difference to the closed image is the ink (the
//! black top-hat; opening finds light lines). Around lines there is more paper than ink, which tells dark lines from
//! light ones. Otsu's threshold (1979) separates ink from noise, specks are dropped, and thin lines are broadened to
//! the stroke width of the data set. Finally the ink is scaled so that its longer side matches the data set's digits,
//! and placed with its centre of mass in the middle, as Y. LeCun, C. Cortes and C. Burges did for MNIST.

mod lines;
mod marks;
mod one;
mod paper;

use image::GrayImage;
use image::imageops::{self, FilterType};

use marks::Mark;
use paper::Sheet;

/// Longest side of the working copy of a picture, in pixels.
const WORKING_SIDE: u32 = 160;
/// Longest side of the copy in which digits are looked for, in pixels.
const LARGE_SIDE: u32 = 640;
/// Least size of a sheet without ink, as a share of the picture.
const BLANK: f64 = 0.25;
/// Least height of a digit in that copy, in pixels; what is left of lines is smaller.
const SMALLEST: usize = 8;
/// Half-width of the closing window in the working copy; strokes must be narrower than the window.
const REACH: usize = 24;
/// Least contrast between paper and ink, in grey levels of 255; anything fainter is no ink.
const FAINTEST: f32 = 12.0;
/// Least size of a piece of ink, as a share of the largest piece; anything smaller is a speck.
const SPECK: f32 = 0.04;
/// Least size of a digit, as a share of the largest piece, for that piece to be discarded as foreign.
const FOREIGN: f32 = 0.15;
/// Least stroke width, as a share of the longer side of the digit; thinner strokes are broadened to it.
const STROKE: f32 = 0.11;

/// Geometry of the images of a data set of digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Side of the square image, in pixels.
    pub side: u32,
    /// Longer side of the digit within the image, in pixels.
    pub digit: u32,
}

impl Frame {
    /// The frame for images of this side: MNIST's 28×28 images hold digits with a longer side of 20, and other sizes
    /// are in proportion, except that the bundled 8×8 digits fill their images.
    pub fn of_side(side: u32) -> Self {
        Self { side, digit: if side <= 8 { side } else { (side * 20 + 14) / 28 } }
    }
}

/// Values of 0 to 255, row-major.
struct Map {
    width: usize,
    values: Vec<f32>,
}

impl Map {
    fn height(&self) -> usize {
        self.values.len() / self.width
    }

    fn place(&self, at: usize) -> (usize, usize) {
        (at % self.width, at / self.width)
    }

    fn at(&self, x: usize, y: usize) -> f32 {
        self.values[y * self.width + x]
    }

    fn transposed(&self) -> Self {
        let height = self.height();
        let values = (0..self.width).flat_map(|x| (0..height).map(move |y| self.at(x, y)));
        Self { width: height, values: values.collect() }
    }
}

/// A digit in a picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digit {
    /// The image of it, `[side, side]`, as the frame has it.
    pub pixels: Vec<u8>,
    /// Left, top, width and height in the picture.
    pub bounds: [u32; 4],
    /// The row of digits that it is in, from 0.
    pub row: usize,
    /// True if it is so wide that it may be two that touch.
    pub is_wide: bool,
}

/// Takes a picture as it is, if it has the form that `frame` gives digits: bright on black or dark on white, of its size,
/// with its margin.
pub fn as_it_is(picture: &GrayImage, frame: Frame) -> Option<Vec<u8>> {
    let Frame { side, digit } = frame;
    if picture.dimensions() != (side, side) {
        return None;
    }
    let bright = |is_inverted: bool| -> Option<Vec<u8>> {
        let pixels: Vec<u8> =
            picture.as_raw().iter().map(|&value| if is_inverted { 255 - value } else { value }).collect();
        let map = Map { width: side as usize, values: pixels.iter().copied().map(f32::from).collect() };
        // Whatever is not black takes part: the digits are as large as their palest pixels reach.
        let inked = Map { width: map.width, values: map.values.iter().map(|&value| 10.0 * value).collect() };
        let [_, _, width, height] = bounds(&inked)?;
        let longest = width.max(height) as u32;
        let mass: f32 = map.values.iter().sum();
        let is_central = [true, false].into_iter().all(|along_x| {
            let along = |at: usize| if along_x { map.place(at).0 } else { map.place(at).1 };
            let moment: f32 = map.values.iter().enumerate().map(|(at, value)| value * (along(at) as f32 + 0.5)).sum();
            (moment / mass - side as f32 / 2.0).abs() <= 2.5
        });
        let has_form = longest.abs_diff(digit) <= 2 && (digit == side || is_central);
        // More black than ink, and ink that is bright.
        let is_ink = mass < 0.5 * 255.0 * map.values.len() as f32 && pixels.iter().any(|&value| value >= 128);
        (has_form && is_ink).then_some(pixels)
    };
    bright(false).or_else(|| bright(true))
}

/// Finds the largest digit in a picture and normalises it to an image as `frame` has it.
pub fn digit(picture: &GrayImage, frame: Frame) -> Option<Digit> {
    Page::of(picture).digit(frame)
}

/// Finds the digits in a picture, row by row, and normalises each to an image as `frame` has it.
pub fn digits(picture: &GrayImage, frame: Frame) -> Vec<Digit> {
    Page::of(picture).digits(frame)
}

/// A picture with its paper upright, without ruled lines.
struct Page<'a> {
    picture: &'a GrayImage,
    sheet: Option<Sheet>,
    /// The sheet alone.
    upright: Option<GrayImage>,
    /// A copy of the paper without its lines.
    clean: Map,
    contrast: Contrast,
    is_ruled: bool,
    pieces: Pieces,
    marks: Vec<Mark>,
}

impl<'a> Page<'a> {
    fn of(picture: &'a GrayImage) -> Self {
        // A small sheet without ink is none, but a broad stroke or a lamp.
        let page = Sheet::find(picture).map(|sheet| Self::with(picture, Some(sheet)));
        let is_sheet = |page: &Self| {
            let is_large = page
                .sheet
                .is_some_and(|sheet| sheet.area() >= BLANK * f64::from(picture.width()) * f64::from(picture.height()));
            !page.marks.is_empty() || is_large && page.is_blank()
        };
        page.filter(is_sheet).unwrap_or_else(|| Self::with(picture, None))
    }

    fn with(picture: &'a GrayImage, sheet: Option<Sheet>) -> Self {
        let upright = sheet.map(|sheet| sheet.upright(picture));
        let paper = upright.as_ref().unwrap_or(picture);
        let longer = paper.width().max(paper.height()).min(LARGE_SIDE);
        let mut clean = shrunk(paper, longer);
        let mut contrast = contrast(&clean, (REACH * longer as usize).div_ceil(WORKING_SIDE as usize));
        let is_ruled = lines::removed(&mut clean, &mut contrast);
        let pieces = full_ink(&contrast.ink).map(|ink| Pieces::of(&ink)).unwrap_or_default();
        let mut marks = marks::marks(&pieces);
        marks.retain(|mark| mark.corners[3] - mark.corners[1] >= SMALLEST);
        Self { picture, sheet, upright, clean, contrast, is_ruled, pieces, marks }
    }

    /// Returns true if there is no ink but specks.
    fn is_blank(&self) -> bool {
        self.pieces.all.iter().all(|piece| piece.corners[3] - piece.corners[1] < SMALLEST)
    }

    fn digits(&self, frame: Frame) -> Vec<Digit> {
        match self.marks.len() {
            0 | 1 => self.digit(frame).into_iter().collect(),
            _ => self.marks.iter().filter_map(|mark| self.marked(mark, self.alone(mark), frame)).collect(),
        }
    }

    /// The largest digit.
    fn digit(&self, frame: Frame) -> Option<Digit> {
        let whole = Mark { corners: [0, 0, self.clean.width - 1, self.clean.height() - 1], ..Mark::default() };
        let area = |mark: &&Mark| {
            let [left, top, right, bottom] = mark.corners;
            (right - left) * (bottom - top)
        };
        match self.marks.iter().max_by_key(area) {
            // Of a ruled page the mark alone: what is left of the lines does not matter.
            Some(mark) if self.is_ruled || self.marks.len() > 1 => self.marked(mark, self.alone(mark), frame),
            // What is left of lines is no digit, nor is the edge of a sheet.
            None if self.is_ruled || self.sheet.is_some() => None,
            mark => {
                let paper = self.upright.as_ref().unwrap_or(self.picture).clone();
                self.marked(mark.unwrap_or(&whole), paper, frame)
            }
        }
    }

    fn marked(&self, mark: &Mark, paper: GrayImage, frame: Frame) -> Option<Digit> {
        let strokes = strokes(&paper)?;
        let mnist = Frame::of_side(28);
        // No digit has more holes than an 8; two that touch may.
        if !mark.is_wide && holes(&framed(&strokes, mnist)?, mnist.side) > 2 {
            return None;
        }
        let pixels = framed(&strokes, frame)?;
        Some(Digit { pixels, bounds: self.bounds(mark), row: mark.row, is_wide: mark.is_wide })
    }

    /// The surroundings of a mark, with paper in the place of all others.
    fn alone(&self, mark: &Mark) -> GrayImage {
        let (map, [left, top, right, bottom]) = (&self.clean, mark.corners);
        let margin = 4 + (right - left).max(bottom - top) / 4;
        let (left, top) = (left.saturating_sub(margin), top.saturating_sub(margin));
        let (right, bottom) = ((right + margin).min(map.width - 1), (bottom + margin).min(map.height() - 1));
        let pieces = &self.pieces.of;
        let is_other = |at: usize| pieces[at] != usize::MAX && !mark.pieces.contains(&pieces[at]);
        GrayImage::from_fn((right - left + 1) as u32, (bottom - top + 1) as u32, |x, y| {
            let at = (top + y as usize) * map.width + left + x as usize;
            let is_painted = neighbours(map, at, 2).any(is_other);
            let value = if is_painted { self.contrast.paper.values[at] } else { map.values[at] };
            [value.round() as u8].into()
        })
    }

    /// Left, top, width and height of a mark in the picture.
    fn bounds(&self, mark: &Mark) -> [u32; 4] {
        let paper = self.upright.as_ref().unwrap_or(self.picture);
        let scale = f64::from(paper.width()) / self.clean.width as f64;
        let [left, top, right, bottom] = mark.corners;
        let corners = [[left, top], [right + 1, top], [left, bottom + 1], [right + 1, bottom + 1]].map(|corner| {
            let point = corner.map(|along| along as f64 * scale);
            self.sheet.map_or(point, |sheet| sheet.place(point))
        });
        let [low, high] = [f64::min, f64::max].map(|of_two| {
            [0, 1].map(|along| corners.iter().map(|corner| corner[along]).reduce(of_two).unwrap_or_default())
        });
        let size = [self.picture.width(), self.picture.height()];
        let [first, last] = [low, high].map(|end| [0, 1].map(|at| end[at].round().clamp(0.0, size[at].into()) as u32));
        [first[0], first[1], last[0] - first[0], last[1] - first[1]]
    }
}

/// Normalises a picture to an image of the digit, `[side, side]`, as `frame` has it; `None` if there is no ink.
#[cfg(test)]
fn normalise(picture: &GrayImage, frame: Frame) -> Option<Vec<u8>> {
    strokes(picture).and_then(|strokes| framed(&strokes, frame))
}

/// The strokes of the digit in a picture, on an otherwise empty map; `None` if there is no ink.
fn strokes(picture: &GrayImage) -> Option<Map> {
    let map = ink(&shrunk(picture, WORKING_SIDE))?;
    Some(broadened(one::bare(strokes_alone(map)?)))
}

/// Counts the places within the strokes that ink surrounds.
fn holes(image: &[u8], side: u32) -> usize {
    let side = side as usize + 2;
    // A margin joins what is outside.
    let mut is_paper = vec![true; side * side];
    for (at, &value) in image.iter().enumerate() {
        is_paper[(at / (side - 2) + 1) * side + at % (side - 2) + 1] = value < 100;
    }
    let mut count = 0;
    for start in 0..is_paper.len() {
        let (mut size, mut reached) = (0, if is_paper[start] { vec![start] } else { Vec::new() });
        is_paper[start] = false;
        while let Some(at) = reached.pop() {
            size += 1;
            for next in [at.wrapping_sub(1), at + 1, at.wrapping_sub(side), at + side] {
                if is_paper.get(next) == Some(&true) {
                    is_paper[next] = false;
                    reached.push(next);
                }
            }
        }
        // Some pixels are a gap between strokes.
        count += usize::from(size > 3);
    }
    count.saturating_sub(1)
}

/// A copy of the picture whose longer side has this many pixels.
fn shrunk(picture: &GrayImage, longer: u32) -> Map {
    let (width, height) = picture.dimensions();
    let longest = width.max(height).max(1);
    let side = |side: u32| (f64::from(side) * f64::from(longer) / f64::from(longest)).round().max(1.0) as u32;
    let small = imageops::resize(picture, side(width), side(height), FilterType::Triangle);
    Map { width: small.width() as usize, values: small.into_raw().into_iter().map(f32::from).collect() }
}

/// Ink: values that are thinner than the paper around them.
struct Contrast {
    /// The difference of each pixel to the paper, beyond that of most paper.
    ink: Map,
    /// The picture without what is thin, as bright as most paper.
    paper: Map,
}

/// Measures how far each pixel differs from the paper around it, as seen through windows of `2 * reach + 1` pixels.
fn contrast(picture: &Map, reach: usize) -> Contrast {
    let margin = 2 * reach + 1;
    let wide = with_margin(picture, margin);
    let [highest, lowest] = [f32::max, f32::min].map(|of_two| filtered(&wide, reach, of_two));
    let (closed, opened) = (filtered(&highest, reach, f32::min).values, filtered(&lowest, reach, f32::max).values);
    // The range of values in the window; it is large as far as the window reaches around lines.
    let contrast = |at: usize| highest.values[at] - lowest.values[at];
    let largest = (0..wide.values.len()).map(contrast).fold(0.0, f32::max);
    let near_lines = || (0..wide.values.len()).filter(|&at| contrast(at) >= 0.5 * largest);
    let is_light = |&at: &usize| 2.0 * wide.values[at] > highest.values[at] + lowest.values[at];
    let is_dark_ink = 2 * near_lines().filter(is_light).count() > near_lines().count();
    let whole = if is_dark_ink { closed } else { opened };
    let inside = |at: usize| {
        let (x, y) = picture.place(at);
        (y + margin) * wide.width + x + margin
    };
    let paper = (0..picture.values.len()).map(|at| whole[inside(at)]).collect();
    let paper = Map { width: picture.width, values: paper };
    let values = picture.values.iter().zip(&paper.values);
    let mut ink: Vec<f32> =
        values.map(|(value, paper)| if is_dark_ink { paper - value } else { value - paper }).collect();
    // Noise makes all paper look slightly inked.
    let mut sorted = ink.clone();
    let middle = sorted.len() / 2;
    let most = *sorted.select_nth_unstable_by(middle, f32::total_cmp).1;
    ink.iter_mut().for_each(|value| *value = (*value - most).max(0.0));
    let paper_alone = |paper: &f32| if is_dark_ink { paper - most } else { paper + most };
    let paper = Map { width: paper.width, values: paper.values.iter().map(paper_alone).collect() };
    Contrast { ink: Map { width: picture.width, values: ink }, paper }
}

/// Measures the ink of each pixel: 0 is paper, 255 full ink; `None` where there is none.
fn ink(picture: &Map) -> Option<Map> {
    full_ink(&contrast(picture, REACH).ink)
}

fn full_ink(ink: &Map) -> Option<Map> {
    let threshold = otsu(&ink.values)?;
    let mut inked: Vec<f32> = ink.values.iter().copied().filter(|&value| value > threshold).collect();
    inked.sort_by(f32::total_cmp);
    let full = *inked.get(inked.len() / 2)?;
    // Less than a third of full ink is noise; the edges of lines are in between.
    let values = ink.values.iter().map(|&ink| (255.0 * (ink / full - 0.33) / 0.5).clamp(0.0, 255.0)).collect();
    (full >= FAINTEST).then_some(Map { width: ink.width, values })
}

/// Surrounds the picture with a margin that repeats its border, so that the paper beside a line is wider than the
/// window.
fn with_margin(picture: &Map, margin: usize) -> Map {
    let (width, height) = (picture.width, picture.height());
    let inside = |at: usize, length: usize| at.saturating_sub(margin).min(length - 1);
    let rows = 0..height + 2 * margin;
    let row = |y: usize| (0..width + 2 * margin).map(move |x| (inside(x, width), inside(y, height)));
    Map { width: width + 2 * margin, values: rows.flat_map(row).map(|(x, y)| picture.values[y * width + x]).collect() }
}

/// Applies a maximum or minimum filter, as `of_two` selects, with the square window around each pixel.
fn filtered(map: &Map, reach: usize, of_two: fn(f32, f32) -> f32) -> Map {
    let in_rows = |map: &Map| {
        let mut values = Vec::with_capacity(map.values.len());
        for row in map.values.chunks_exact(map.width) {
            // Repeating the ends changes no window's extreme. Windows grow by doubling.
            let (first, last) = (row[0], row[row.len() - 1]);
            let ends = |value: f32| std::iter::repeat_n(value, reach);
            let mut windows: Vec<f32> = ends(first).chain(row.iter().copied()).chain(ends(last)).collect();
            let (length, mut reached) = (2 * reach + 1, 1);
            while reached < length {
                let step = reached.min(length - reached);
                for at in 0..windows.len() - step {
                    windows[at] = of_two(windows[at], windows[at + step]);
                }
                windows.truncate(windows.len() - step);
                reached += step;
            }
            values.extend(windows);
        }
        Map { width: map.width, values }
    };
    in_rows(&in_rows(map).transposed()).transposed()
}

/// Otsu's threshold (1979), which minimises the variance within the two sides; `None` if all values are on one side.
fn otsu(values: &[f32]) -> Option<f32> {
    let mut histogram = [0u32; 256];
    values.iter().for_each(|&value| histogram[value.round().clamp(0.0, 255.0) as usize] += 1);
    let moment = |range: &[u32], first: usize| -> (f64, f64) {
        let count = range.iter().map(|&count| f64::from(count)).sum();
        (count, range.iter().enumerate().map(|(at, &count)| (first + at) as f64 * f64::from(count)).sum())
    };
    let between = |threshold: usize| {
        let (below, above) = histogram.split_at(threshold + 1);
        let ((n0, sum0), (n1, sum1)) = (moment(below, 0), moment(above, threshold + 1));
        if n0 == 0.0 || n1 == 0.0 { 0.0 } else { n0 * n1 * (sum0 / n0 - sum1 / n1).powi(2) }
    };
    let best = (0..255).map(|threshold| (threshold, between(threshold))).max_by(|a, b| a.1.total_cmp(&b.1))?;
    (best.1 > 0.0).then_some(best.0 as f32)
}

/// A connected component of ink.
#[derive(Clone, Copy)]
struct Piece {
    size: usize,
    /// Left, top, right and bottom.
    corners: [usize; 4],
    /// True if the piece touches the border of the picture, like the edge of a table or a shadow.
    is_cut_off: bool,
}

impl Piece {
    /// Returns true if this piece frames `other`: `other` lies within its corners and is no mere speck beside it.
    fn is_around(&self, other: &Self) -> bool {
        let ([left, top, right, bottom], inner) = (self.corners, other.corners);
        let is_within = left < inner[0] && top < inner[1] && inner[2] < right && inner[3] < bottom;
        is_within && other.size as f32 >= FOREIGN * self.size as f32
    }
}

/// The connected components of ink.
#[derive(Default)]
struct Pieces {
    all: Vec<Piece>,
    /// The index of each pixel's component, or `usize::MAX`.
    of: Vec<usize>,
}

impl Pieces {
    fn of(map: &Map) -> Self {
        let is_ink: Vec<bool> = map.values.iter().map(|&value| value >= 128.0).collect();
        let mut pieces = Self { all: Vec::new(), of: vec![usize::MAX; is_ink.len()] };
        for start in 0..is_ink.len() {
            if !is_ink[start] || pieces.of[start] != usize::MAX {
                continue;
            }
            let mut piece = Piece { size: 0, corners: [usize::MAX, usize::MAX, 0, 0], is_cut_off: false };
            let mut reached = vec![start];
            pieces.of[start] = pieces.all.len();
            while let Some(at) = reached.pop() {
                let ((x, y), [left, top, right, bottom]) = (map.place(at), piece.corners);
                piece.size += 1;
                piece.corners = [left.min(x), top.min(y), right.max(x), bottom.max(y)];
                piece.is_cut_off |= x == 0 || y == 0 || x + 1 == map.width || y + 1 == map.height();
                for next in neighbours(map, at, 1) {
                    if is_ink[next] && pieces.of[next] == usize::MAX {
                        pieces.of[next] = pieces.all.len();
                        reached.push(next);
                    }
                }
            }
            pieces.all.push(piece);
        }
        pieces
    }

    /// Returns true for what neither leaves the picture nor frames other ink.
    fn is_own(&self, piece: &Piece) -> bool {
        !piece.is_cut_off && !self.all.iter().any(|other| piece.is_around(other))
    }
}

/// Keeps the strokes of the digit only. Drops pieces that touch the border or frame other ink, if enough ink remains
/// without them; pieces that are tiny compared with the largest one; and pale pixels that touch no kept piece.
fn strokes_alone(mut map: Map) -> Option<Map> {
    let pieces = Pieces::of(&map);
    let own: Vec<bool> = pieces.all.iter().map(|piece| pieces.is_own(piece)).collect();
    let largest = pieces.all.iter().map(|piece| piece.size).max()? as f32;
    let of_own = pieces.all.iter().zip(&own).filter(|&(_, &is_own)| is_own);
    let largest_own = of_own.map(|(piece, _)| piece.size).max().unwrap_or(0) as f32;
    let is_alone = largest_own >= FOREIGN * largest;
    let smallest = SPECK * if is_alone { largest_own } else { largest };
    let is_kept = |(piece, &is_own): (&Piece, &bool)| piece.size as f32 >= smallest && (!is_alone || is_own);
    let is_kept: Vec<bool> = pieces.all.iter().zip(&own).map(is_kept).collect();
    let is_kept = |at: usize| is_kept.get(pieces.of[at]).is_some_and(|&is_kept| is_kept);
    let values =
        (0..map.values.len()).map(|at| if neighbours(&map, at, 1).any(is_kept) { map.values[at] } else { 0.0 });
    map.values = values.collect();
    Some(map)
}

/// Indices of the pixels at most `far` away in x and in y, including the pixel itself.
fn neighbours(map: &Map, at: usize, far: usize) -> impl Iterator<Item = usize> + use<> {
    let ((x, y), width) = (map.place(at), map.width);
    let rows = y.saturating_sub(far)..=(y + far).min(map.height() - 1);
    let columns = x.saturating_sub(far)..=(x + far).min(width - 1);
    rows.flat_map(move |y| columns.clone().map(move |x| y * width + x))
}

/// Bounding box of the ink: left, top, width and height.
fn bounds(map: &Map) -> Option<[usize; 4]> {
    let ink = || (0..map.values.len()).filter(|&at| map.values[at] >= 128.0).map(|at| map.place(at));
    let (left, right) = (ink().map(|(x, _)| x).min()?, ink().map(|(x, _)| x).max()?);
    let (top, bottom) = (ink().map(|(_, y)| y).min()?, ink().map(|(_, y)| y).max()?);
    Some([left, top, right - left + 1, bottom - top + 1])
}

/// Broadens strokes thinner than [`STROKE`], on a map enlarged to hold them.
fn broadened(map: Map) -> Map {
    let Some([_, _, width, height]) = bounds(&map) else { return map };
    let is_ink = |at: usize| map.values[at] >= 128.0;
    let ink = (0..map.values.len()).filter(|&at| is_ink(at)).count() as f32;
    let is_edge = |at: usize| is_ink(at) && neighbours(&map, at, 1).any(|next| !is_ink(next));
    let edge = (0..map.values.len()).filter(|&at| is_edge(at)).count() as f32;
    // A line of breadth b and length l has b l pixels, of which about 2 l are at its edges.
    let breadth = (2.0 * ink / edge.max(1.0)).max(1.0);
    let missing = STROKE * width.max(height) as f32 - breadth;
    let radius = (missing / 2.0).round().max(0.0) as usize;
    let whole_width = map.width + 2 * radius;
    let mut values = vec![0.0f32; whole_width * (map.height() + 2 * radius)];
    for (at, &value) in map.values.iter().enumerate().filter(|&(_, &value)| value > 0.0) {
        let (x, y) = map.place(at);
        for dy in 0..=2 * radius {
            for dx in 0..=2 * radius {
                if dx.abs_diff(radius).pow(2) + dy.abs_diff(radius).pow(2) <= radius * radius {
                    let target = &mut values[(y + dy) * whole_width + x + dx];
                    *target = target.max(value);
                }
            }
        }
    }
    Map { width: whole_width, values }
}

/// Scales the bounding box of the ink and centres it by its centre of mass.
fn framed(map: &Map, frame: Frame) -> Option<Vec<u8>> {
    let [left, top, width, height] = bounds(map)?;
    let ink = GrayImage::from_fn(width as u32, height as u32, |x, y| {
        [map.values[(top + y as usize) * map.width + left + x as usize] as u8].into()
    });
    let Frame { side, digit } = frame;
    let longest = width.max(height) as f64;
    let scaled = |size: usize| (f64::from(digit) * size as f64 / longest).round().max(1.0) as u32;
    let ink = imageops::resize(&ink, scaled(width), scaled(height), FilterType::Triangle);

    let mass: f64 = ink.pixels().map(|pixel| f64::from(pixel[0])).sum();
    let centre = |along: fn(u32, u32) -> u32| {
        ink.enumerate_pixels().map(|(x, y, pixel)| f64::from(pixel[0]) * (f64::from(along(x, y)) + 0.5)).sum::<f64>()
            / mass.max(1.0)
    };
    // Centred as far as the ink stays within the image.
    let offset = |centre: f64, size: u32| (f64::from(side) / 2.0 - centre).round().clamp(0.0, f64::from(side - size));
    let (x, y) = (offset(centre(|x, _| x), ink.width()), offset(centre(|_, y| y), ink.height()));
    let mut image = GrayImage::new(side, side);
    imageops::replace(&mut image, &ink, x as i64, y as i64);
    Some(image.into_raw())
}

#[cfg(test)]
mod tests {
    use image::Luma;
    use proptest::prelude::*;

    use super::*;

    const MNIST: Frame = Frame { side: 28, digit: 20 };

    /// Draws a seven with strokes of this width in a box at (left, top); `light` gives the brightness at a position,
    /// with or without ink.
    fn seven(
        canvas: [u32; 2],
        [left, top, width, height]: [f32; 4],
        breadth: f32,
        light: fn(f32, f32, bool) -> f32,
    ) -> GrayImage {
        GrayImage::from_fn(canvas[0], canvas[1], |x, y| {
            let (u, v) = ((x as f32 - left) / width, (y as f32 - top) / height);
            let bar = (0.0..=1.0).contains(&u) && (0.0..=breadth).contains(&v);
            let stem = (0.0..=1.0).contains(&v) && (u - (1.0 - 0.6 * v)).abs() <= breadth / 2.0;
            let (x, y) = (x as f32 / canvas[0] as f32, y as f32 / canvas[1] as f32);
            Luma([light(x, y, bar || stem).clamp(0.0, 255.0) as u8])
        })
    }

    fn plain(_: f32, _: f32, ink: bool) -> f32 {
        if ink { 0.0 } else { 255.0 }
    }

    fn distance(a: &[u8], b: &[u8]) -> f64 {
        let sum: f64 = a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).abs()).sum();
        sum / a.iter().map(|&value| f64::from(value)).sum::<f64>()
    }

    #[test]
    fn a_digit_has_its_size_and_its_centre_of_mass_in_the_middle() {
        let image = normalise(&seven([300, 200], [200.0, 20.0, 50.0, 100.0], 0.15, plain), MNIST).unwrap();
        let rows = (0..28).filter(|&y| image[28 * y..28 * (y + 1)].iter().any(|&value| value > 0)).count();
        assert_eq!((image.len(), rows), (784, 20));
        let mass: f64 = image.iter().map(|&value| f64::from(value)).sum();
        for along in [|at: usize| at % 28, |at: usize| at / 28] {
            let moment: f64 =
                image.iter().enumerate().map(|(at, &value)| f64::from(value) * (along(at) as f64 + 0.5)).sum();
            assert!((moment / mass - 14.0).abs() <= 0.5, "{}", moment / mass);
        }
        assert!(image.contains(&255) && image[0] == 0, "bright ink on black");
    }

    #[test]
    fn polarity_place_size_light_and_pen_change_little() {
        let expected = normalise(&seven([200, 200], [50.0, 50.0, 60.0, 100.0], 0.12, plain), MNIST).unwrap();
        for (what, picture) in [
            ("negative", seven([200, 200], [50.0, 50.0, 60.0, 100.0], 0.12, |_, _, ink| if ink { 255.0 } else { 0.0 })),
            ("place", seven([200, 200], [130.0, 5.0, 60.0, 100.0], 0.12, plain)),
            ("size", seven([1000, 700], [100.0, 80.0, 300.0, 500.0], 0.12, plain)),
            (
                "light",
                seven([200, 200], [50.0, 50.0, 60.0, 100.0], 0.12, |x, y, ink| {
                    240.0 - 90.0 * x - 50.0 * y - if ink { 60.0 } else { 0.0 }
                }),
            ),
            (
                "edge of a shadow",
                seven([200, 200], [50.0, 50.0, 60.0, 100.0], 0.12, |x, y, ink| {
                    let paper = if x + 0.3 * y > 0.6 { 210.0 } else { 150.0 };
                    if ink { paper - 100.0 } else { paper }
                }),
            ),
            (
                "vignette",
                seven([200, 200], [50.0, 50.0, 60.0, 100.0], 0.12, |x, y, ink| {
                    220.0 - 250.0 * ((x - 0.5).powi(2) + (y - 0.5).powi(2)) - if ink { 90.0 } else { 0.0 }
                }),
            ),
            (
                "chalk on a board",
                seven([200, 200], [50.0, 50.0, 60.0, 100.0], 0.12, |x, _, ink| {
                    20.0 + 80.0 * x + if ink { 120.0 } else { 0.0 }
                }),
            ),
            ("faint", seven([200, 200], [50.0, 50.0, 60.0, 100.0], 0.12, |_, _, ink| if ink { 150.0 } else { 180.0 })),
            ("pen", seven([200, 200], [50.0, 50.0, 60.0, 100.0], 0.04, plain)),
        ] {
            let distance = distance(&expected, &normalise(&picture, MNIST).unwrap());
            assert!(distance <= 0.35, "{what}: {distance}");
        }
    }

    #[test]
    fn specks_are_no_ink() {
        let mut picture = seven([200, 200], [50.0, 50.0, 60.0, 100.0], 0.12, plain);
        let expected = normalise(&picture, MNIST).unwrap();
        for (x, y) in [(5, 5), (190, 30), (100, 180)] {
            picture.put_pixel(x, y, Luma([0]));
        }
        let distance = distance(&expected, &normalise(&picture, MNIST).unwrap());
        assert!(distance <= 0.02, "{distance}");
    }

    #[test]
    fn frames_and_what_leaves_the_picture_are_no_ink() {
        let plain = seven([200, 200], [50.0, 50.0, 60.0, 100.0], 0.12, plain);
        let expected = normalise(&plain, MNIST).unwrap();
        let (mut framed, mut cut) = (plain.clone(), plain);
        for at in 10..190 {
            for (x, y) in [(at, 10), (at, 189), (10, at), (189, at)] {
                framed.put_pixel(x, y, Luma([0]));
                framed.put_pixel(x.max(11), y.max(11), Luma([0]));
            }
            for breadth in 0..8 {
                cut.put_pixel(160 + breadth, at + 10, Luma([0]));
            }
        }
        for picture in [framed, cut] {
            let distance = distance(&expected, &normalise(&picture, MNIST).unwrap());
            assert!(distance <= 0.02, "{distance}");
        }
    }

    #[test]
    fn what_has_the_form_already_is_taken_as_it_is() {
        let picture = seven([200, 200], [50.0, 50.0, 60.0, 100.0], 0.12, plain);
        let expected = normalise(&picture, MNIST).unwrap();
        let bright = GrayImage::from_raw(28, 28, expected.clone()).unwrap();
        let mut dark = bright.clone();
        imageops::invert(&mut dark);
        assert_eq!(as_it_is(&bright, MNIST), Some(expected.clone()));
        assert_eq!(as_it_is(&dark, MNIST), Some(expected));
        // Of another size, too small a digit, none, and nothing but ink.
        assert_eq!(as_it_is(&picture, MNIST), None);
        for small in [
            seven([28, 28], [10.0, 8.0, 6.0, 12.0], 0.15, |_, _, ink| if ink { 255.0 } else { 0.0 }),
            GrayImage::new(28, 28),
            GrayImage::from_pixel(28, 28, Luma([255])),
        ] {
            assert_eq!(as_it_is(&small, MNIST), None);
        }
    }

    #[test]
    fn holes_are_paper_that_ink_surrounds() {
        let ring = |x: usize, y: usize, [left, top]: [usize; 2]| {
            let (x, y) = (x.wrapping_sub(left), y.wrapping_sub(top));
            x < 6 && y < 6 && (x == 0 || y == 0 || x == 5 || y == 5)
        };
        for count in 0..4 {
            let places = [[2, 2], [7, 2], [7, 7], [2, 20]];
            let is_ink = |at: usize| places[..count].iter().any(|&place| ring(at % 28, at / 28, place));
            let image: Vec<u8> = (0..784).map(|at| if is_ink(at) { 255 } else { 0 }).collect();
            assert_eq!(holes(&image, 28), count);
        }
        assert!(digit(&GrayImage::from_pixel(60, 60, Luma([200])), MNIST).is_none());
    }

    #[test]
    fn frames_keep_the_proportion_of_mnist_but_for_the_bundled_digits() {
        assert_eq!(Frame::of_side(28), MNIST);
        assert_eq!(Frame::of_side(8), Frame { side: 8, digit: 8 });
        assert_eq!(Frame::of_side(56), Frame { side: 56, digit: 40 });
        assert_eq!(Frame::of_side(1), Frame { side: 1, digit: 1 });
    }

    proptest! {
        #[test]
        fn any_picture_is_one_digit_or_none(
            width in 1u32..60, height in 1u32..60, side in 1u32..40, seed in any::<u64>(), levels in 1u64..256,
        ) {
            let mut state = seed;
            let picture = GrayImage::from_fn(width, height, |_, _| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                Luma([((state >> 33) % levels) as u8])
            });
            if let Some(image) = normalise(&picture, Frame::of_side(side)) {
                prop_assert_eq!(image.len(), (side * side) as usize);
                prop_assert!(image.iter().any(|&value| value > 0));
            }
        }
    }
}
