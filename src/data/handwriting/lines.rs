//! Lines of ruled and squared paper: straight, thin, and from one border to the other. They are painted over with the
//! paper beside them, but where the pen crosses.

use super::{Contrast, Map};

/// Least contrast of a line, in grey levels of 255; the pen stands out from fainter ones.
const FAINTEST: f32 = 7.0;
/// Largest breadth of a line, in pixels.
const BREADTH: usize = 5;
/// Steepest line, in pixels down for each pixel to the right.
const STEEPEST: f64 = 0.27;
/// Step between slopes that are tried.
const SLOPE: f64 = 0.005;
/// Most difference between the slopes of a line and of most lines, as in perspective.
const FAN: f64 = 0.04;
/// Least part of a line that is seen, as a share of the width of the picture, where there are [`SEVERAL`].
const SEEN: f32 = 0.5;
/// The same of fewer lines.
const SEEN_ALONE: f32 = 0.8;
/// Lines that make a ruled sheet.
const SEVERAL: usize = 3;
/// The most lines that are looked for.
const MOST: usize = 80;
/// Most deviation of a line from a straight one, in pixels.
const STRAY: usize = 2;
/// Least contrast of a crossing pen's surroundings, as a factor of the line's.
const PEN: f32 = 1.6;

/// Paints over the lines in both directions, in the picture and in its ink; returns true if there are any.
pub(super) fn removed(picture: &mut Map, contrast: &mut Contrast) -> bool {
    let level = removed_level(picture, &mut contrast.ink);
    let (mut turned, mut ink) = (picture.transposed(), contrast.ink.transposed());
    let upright = removed_level(&mut turned, &mut ink);
    if upright {
        (*picture, contrast.ink) = (turned.transposed(), ink.transposed());
    }
    level || upright
}

/// A line by its height at each column.
struct Line {
    heights: Vec<usize>,
    /// Half its breadth, and a pixel more.
    half: usize,
    /// Ink across the line, where there is no pen.
    mass: f32,
    /// Share of the columns in which it is seen.
    seen: f32,
}

fn removed_level(picture: &mut Map, ink: &mut Map) -> bool {
    let mut lines = lines(ink);
    if lines.iter().filter(|line| line.seen >= SEEN).count() < SEVERAL {
        lines.retain(|line| line.seen >= SEEN_ALONE);
    }
    lines.iter().for_each(|line| paint_over(line, picture, ink));
    !lines.is_empty()
}

/// Heights of the crests of what is thin from above to below, column by column.
fn crests(ink: &Map) -> Vec<Vec<usize>> {
    let (width, height) = (ink.width, ink.height());
    let beside = BREADTH + 1;
    let mut crests = vec![Vec::new(); width];
    for y in 0..height {
        let (above, below) = (y.checked_sub(beside), Some(y + beside).filter(|&y| y < height));
        for (x, crests) in crests.iter_mut().enumerate() {
            let value = ink.at(x, y);
            let paper = [above, below].into_iter().flatten().map(|y| ink.at(x, y)).fold(0.0, f32::max);
            let is_highest = (y == 0 || ink.at(x, y - 1) < value) && (y + 1 == height || ink.at(x, y + 1) <= value);
            if is_highest && value - paper >= FAINTEST {
                crests.push(y);
            }
        }
    }
    crests
}

/// Finds lines by a Hough transform of the crests, the clearest first.
fn lines(ink: &Map) -> Vec<Line> {
    let (width, height) = (ink.width, ink.height());
    if width < 40 || height < 40 {
        return Vec::new();
    }
    let mut crests = crests(ink);
    let middle = width as f64 / 2.0;
    let tilt = (STEEPEST * middle).ceil() as usize + 1;
    let votes = |crests: &[Vec<usize>], slope: f64| {
        let mut votes = vec![0u32; height + 2 * tilt + 2];
        for (x, crests) in crests.iter().enumerate() {
            let offset = tilt as f64 - slope * (x as f64 - middle);
            crests.iter().for_each(|&y| votes[(y as f64 + offset).round() as usize] += 1);
        }
        votes
    };
    let slopes = |from: f64, to: f64| {
        let count = ((to - from) / SLOPE).round() as usize;
        (0..=count).map(move |step| from + SLOPE * step as f64)
    };
    let sharpness = |slope: f64| -> f64 {
        votes(&crests, slope).windows(2).map(|of_two| f64::from(of_two[0] + of_two[1]).powi(3)).sum()
    };
    let sharp: Vec<(f64, f64)> = slopes(-STEEPEST, STEEPEST).map(|slope| (slope, sharpness(slope))).collect();
    let Some(&(most, _)) = sharp.iter().max_by(|a, b| a.1.total_cmp(&b.1)) else { return Vec::new() };
    let (from, to) = ((most - FAN).max(-STEEPEST), (most + FAN).min(STEEPEST));
    let mut lines = Vec::new();
    for _ in 0..MOST {
        let best = slopes(from, to)
            .flat_map(|slope| {
                let votes = votes(&crests, slope);
                let best = (1..votes.len() - 1).map(|at| (votes[at - 1] + votes[at] + votes[at + 1], at)).max();
                best.map(|(votes, at)| (votes, at, slope))
            })
            .max_by_key(|&(votes, ..)| votes);
        let Some((_, at, slope)) = best.filter(|&(votes, ..)| votes as f32 >= 0.35 * width as f32) else { break };
        let straight = |x: usize| at as f64 - tilt as f64 + slope * (x as f64 - middle);
        if let Some(line) = traced(ink, &crests, straight) {
            lines.push(line);
        }
        for (x, crests) in crests.iter_mut().enumerate() {
            crests.retain(|&y| (y as f64 - straight(x)).abs() > STRAY as f64 + 0.5);
        }
    }
    lines
}

/// Follows a line along the crests near a straight one.
fn traced(ink: &Map, crests: &[Vec<usize>], straight: impl Fn(usize) -> f64) -> Option<Line> {
    let height = ink.height();
    let near = |x: usize| {
        let offset = |&y: &usize| y as f64 - straight(x);
        let near = crests[x].iter().map(offset).filter(|offset| offset.abs() <= STRAY as f64 + 0.5);
        near.min_by(|a, b| a.abs().total_cmp(&b.abs()))
    };
    let offsets: Vec<Option<f64>> = (0..ink.width).map(near).collect();
    let seen = offsets.iter().flatten().count() as f32 / ink.width as f32;
    let heights: Vec<usize> = (0..ink.width)
        .map(|x| {
            let around = x.saturating_sub(20)..(x + 21).min(ink.width);
            let mut around: Vec<f64> = offsets[around].iter().flatten().copied().collect();
            around.sort_by(f64::total_cmp);
            let offset = around.get(around.len() / 2).copied().unwrap_or(0.0);
            (straight(x) + offset).round().clamp(0.0, height as f64 - 1.0) as usize
        })
        .collect();
    // Its breadth and its mass, where it is seen.
    let columns = || (0..ink.width).filter(|&x| offsets[x].is_some());
    let across = |x: usize, half: usize| {
        let rows = heights[x].saturating_sub(half)..(heights[x] + half + 1).min(height);
        rows.map(move |y| ink.at(x, y))
    };
    let mut breadths: Vec<usize> = columns()
        .map(|x| {
            let crest = across(x, 1).fold(0.0, f32::max);
            across(x, BREADTH).filter(|&value| value >= 0.4 * crest).count()
        })
        .collect();
    breadths.sort_unstable();
    let half = breadths.get(breadths.len() / 2)? / 2 + 1;
    let mut masses: Vec<f32> = columns().map(|x| across(x, half + 2).sum()).collect();
    masses.sort_by(f32::total_cmp);
    let mass = *masses.get(masses.len() / 2)?;
    Some(Line { heights, half, mass, seen })
}

fn paint_over(line: &Line, picture: &mut Map, ink: &mut Map) {
    let height = picture.height();
    let Line { heights, half, mass, .. } = line;
    for (x, &at) in heights.iter().enumerate() {
        let rows = at.saturating_sub(half + 2)..(at + half + 3).min(height);
        if rows.map(|y| ink.at(x, y)).sum::<f32>() > PEN * mass {
            continue;
        }
        let (above, below) = (at.checked_sub(half + 1), Some(at + half + 1).filter(|&y| y < height));
        for map in [&mut *picture, &mut *ink] {
            let [first, last] = [above, below].map(|y| y.map(|y| map.at(x, y)));
            let (first, last) = (first.or(last).unwrap_or_default(), last.or(first).unwrap_or_default());
            let rows = at.saturating_sub(*half)..(at + half + 1).min(height);
            for y in rows {
                let share = (y + half + 1 - at) as f32 / (2 * half + 2) as f32;
                map.values[y * map.width + x] = first + (last - first) * share;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::contrast;
    use super::*;

    /// A page of paper with lines every 30 pixels, and this much ink on top.
    fn page(slope: f32, ink: impl Fn(usize, usize) -> f32) -> Map {
        let value = |at: usize| {
            let (x, y) = (at % 320, at / 320);
            let is_line = (y as f32 - 15.0 - slope * x as f32).rem_euclid(30.0) < 2.0;
            200.0 - if is_line { 50.0 } else { 0.0f32 }.max(ink(x, y))
        };
        Map { width: 320, values: (0..320 * 240).map(value).collect() }
    }

    #[test]
    fn lines_are_painted_over_in_both_directions_and_the_pen_stays() {
        let pen = |x: usize, y: usize| if (150..154).contains(&x) && (60..180).contains(&y) { 80.0 } else { 0.0 };
        for slope in [0.0, 0.03, -0.04] {
            for is_upright in [false, true] {
                let page = page(slope, pen);
                let mut map = if is_upright { page.transposed() } else { page };
                let mut contrast = contrast(&map, 48);
                assert!(removed(&mut map, &mut contrast), "{slope} {is_upright}");
                let map = if is_upright { map.transposed() } else { map };
                let wrong = (0..map.values.len()).filter(|&at| {
                    let (x, y) = map.place(at);
                    let has_pen = pen(x, y) > 0.0;
                    let near_pen = (145..159).contains(&x);
                    if has_pen { map.values[at] > 150.0 } else { !near_pen && map.values[at] < 170.0 }
                });
                let wrong = wrong.count();
                assert!(wrong <= 60, "{slope} {is_upright}: {wrong}");
            }
        }
    }

    #[test]
    fn strokes_are_no_lines() {
        let mut map = page(0.0, |_, _| 0.0);
        map.values.fill(200.0);
        for y in [60, 61, 62, 120, 121, 122, 180, 181, 182] {
            for x in 110..210 {
                map.values[y * map.width + x] = 100.0;
            }
        }
        let mut contrast = contrast(&map, 48);
        let before = map.values.clone();
        assert!(!removed(&mut map, &mut contrast) && map.values == before);
    }
}
