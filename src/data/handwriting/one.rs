//! The 1 with a long flag or a wide base, as it is written in much of Europe. MNIST has few of them, and its models take
//! the base for that of a 2 and the flag for the bow of a 9: here both are left out.

use super::{Map, bounds};

/// Least height of such a digit, in pixels.
const LEAST_HEIGHT: usize = 20;
/// Rows in which the stem alone is at the right, as shares of the height.
const STEM_ROWS: [f32; 2] = [0.4, 0.75];
/// Most slope of the stem: columns per row.
const STEM_SLOPE: f32 = 0.35;
/// First row that the base may reach, as a share of the height.
const BASE_TOP: f32 = 0.8;
/// Least length of the base on either side of the stem, as a share of the height.
const BASE_SIDE: f32 = 0.1;
/// Last row that the flag may reach, as a share of the height.
const FLAG_END: f32 = 0.75;
/// Least slope of the flag: columns per row, to the left.
const FLAG_SLOPE: f32 = 0.3;
/// Least height of the flag, as a share of its width. The bar of a 7 lies flatter.
const FLAG_HEIGHT: f32 = 0.55;
/// Most distance of the row where flag and stem meet from the top, as a share of the height.
const FLAG_TOP: f32 = 0.15;

/// A straight line: the column at each row.
#[derive(Clone, Copy)]
struct Line {
    at_0: f32,
    slope: f32,
}

impl Line {
    /// The line of least squares through points `(row, column)`; `None` for fewer than three rows.
    fn through(points: &[(f32, f32)]) -> Option<Self> {
        if points.len() < 3 {
            return None;
        }
        let count = points.len() as f32;
        let mean = |of: fn(&(f32, f32)) -> f32| points.iter().map(of).sum::<f32>() / count;
        let (row, column) = (mean(|point| point.0), mean(|point| point.1));
        let spread: f32 = points.iter().map(|point| (point.0 - row).powi(2)).sum();
        let slope = points.iter().map(|point| (point.0 - row) * (point.1 - column)).sum::<f32>() / spread;
        Some(Self { at_0: column - slope * row, slope })
    }

    fn at(self, row: f32) -> f32 {
        self.at_0 + self.slope * row
    }

    /// Largest distance of a point from the line, in columns.
    fn error(self, points: &[(f32, f32)]) -> f32 {
        points.iter().map(|&(row, column)| (column - self.at(row)).abs()).fold(0.0, f32::max)
    }
}

/// Returns the strokes of a digit without flag and base if it is such a 1; else unchanged.
pub(super) fn bare(mut map: Map) -> Map {
    if let Some(extra) = extra(&map) {
        extra.into_iter().for_each(|at| map.values[at] = 0.0);
    }
    map
}

/// The pixels of flag and base; `None` if the strokes are no stem with one of them.
fn extra(map: &Map) -> Option<Vec<usize>> {
    let [left, top, width, height] = bounds(map)?;
    if height < LEAST_HEIGHT {
        return None;
    }
    let rows = |from: f32, to: f32| top + (from * height as f32) as usize..top + (to * height as f32) as usize;
    let runs = |row: usize| {
        let is_ink = |column: &usize| map.at(*column, row) >= 128.0;
        let columns: Vec<usize> = (left..left + width).filter(is_ink).collect();
        columns.chunk_by(|a, b| a + 1 == *b).map(|run| [run[0], run[run.len() - 1]]).collect::<Vec<_>>()
    };
    let middle = |[first, last]: [usize; 2]| (first + last) as f32 / 2.0;
    let of_stem = |row: usize| runs(row).last().map(|&run| (run, (row as f32, middle(run))));
    let (mut breadths, points): (Vec<usize>, Vec<_>) = rows(STEM_ROWS[0], STEM_ROWS[1])
        .filter_map(of_stem)
        .map(|([first, last], point)| (last - first + 1, point))
        .unzip();
    let stem = Line::through(&points).filter(|stem| stem.slope.abs() <= STEM_SLOPE)?;
    breadths.sort_unstable();
    let breadth = breadths[breadths.len() / 2] as f32;
    let near = 0.75 * breadth + 1.5;
    let is_stem = |row: usize| {
        runs(row).iter().any(|&[first, last]| (first as f32 - 1.0..=last as f32 + 1.0).contains(&stem.at(row as f32)))
    };
    // The stem reaches from the top to the base, or to the bottom.
    let whole = rows(0.1, 0.85);
    if stem.error(&points) > near || whole.clone().any(|row| !is_stem(row)) {
        return None;
    }

    let (mut flag, mut base, mut others, mut pixels) = (Vec::new(), [0usize; 2], 0, Vec::new());
    let mut flag_left = usize::MAX;
    for row in top..top + height {
        let is_base = row >= rows(BASE_TOP, 1.0).start;
        let mut of_flag = Vec::new();
        for column in left..left + width {
            let away = column as f32 - stem.at(row as f32);
            if map.at(column, row) <= 0.0 || away.abs() <= near {
                continue;
            }
            pixels.push(row * map.width + column);
            if map.at(column, row) < 128.0 {
                continue;
            }
            match (is_base, away < 0.0) {
                (true, is_left) => {
                    let side = &mut base[usize::from(!is_left)];
                    *side = (*side).max(away.abs() as usize);
                }
                (false, true) => of_flag.push(column),
                (false, false) => others += 1,
            }
        }
        if let (Some(&first), Some(&last)) = (of_flag.first(), of_flag.last()) {
            // The flag is one stroke.
            others += last - first + 1 - of_flag.len();
            flag_left = flag_left.min(first);
            flag.push((row as f32, middle([first, last])));
        }
    }
    let has_base = match base {
        [0, 0] => false,
        sides if sides.iter().all(|&side| side as f32 >= BASE_SIDE * height as f32) => true,
        _ => return None,
    };
    let has_flag = match Line::through(&flag) {
        _ if flag.is_empty() => false,
        Some(line) => {
            let meet = (stem.at_0 - line.at_0) / (line.slope - stem.slope);
            let is_sloped = -line.slope >= FLAG_SLOPE;
            let [rows_of, columns_of] = [flag.len() as f32 - breadth, stem.at(flag[0].0) - flag_left as f32];
            let is_steep = rows_of >= FLAG_HEIGHT * columns_of;
            let starts_at_top = meet - top as f32 <= FLAG_TOP * height as f32;
            let ends_free = flag[flag.len() - 1].0 < rows(FLAG_END, 1.0).start as f32;
            if !is_sloped || !is_steep || !starts_at_top || !ends_free || line.error(&flag) > near.max(2.5) {
                return None;
            }
            true
        }
        None => return None,
    };
    ((has_base || has_flag) && others <= breadth as usize).then_some(pixels)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Draws strokes of this breadth, each from one point to another.
    fn drawn(strokes: &[[[f32; 2]; 2]], breadth: f32) -> Map {
        let (width, height) = (100, 120);
        let distance = |[x, y]: [f32; 2], [from, to]: [[f32; 2]; 2]| {
            let along = [to[0] - from[0], to[1] - from[1]];
            let share = ((x - from[0]) * along[0] + (y - from[1]) * along[1]) / (along[0].powi(2) + along[1].powi(2));
            let share = share.clamp(0.0, 1.0);
            (x - from[0] - share * along[0]).hypot(y - from[1] - share * along[1])
        };
        let value = |at: usize| {
            let place = [(at % width) as f32, (at / width) as f32];
            let is_ink = strokes.iter().any(|&stroke| distance(place, stroke) <= breadth / 2.0);
            if is_ink { 255.0 } else { 0.0 }
        };
        Map { width, values: (0..width * height).map(value).collect() }
    }

    const STEM: [[f32; 2]; 2] = [[60.0, 10.0], [55.0, 105.0]];
    const FLAG: [[f32; 2]; 2] = [[60.0, 10.0], [25.0, 55.0]];
    const BASE: [[f32; 2]; 2] = [[15.0, 107.0], [95.0, 110.0]];

    #[test]
    fn a_one_loses_its_flag_and_its_base_and_keeps_its_stem() {
        for breadth in [3.0, 6.0, 10.0] {
            let stem = drawn(&[STEM], breadth);
            for strokes in [&[STEM, FLAG][..], &[STEM, BASE], &[STEM, FLAG, BASE]] {
                let [_, _, width, height] = bounds(&bare(drawn(strokes, breadth))).unwrap();
                let [_, _, stem_width, stem_height] = bounds(&stem).unwrap();
                assert!(width as f32 <= stem_width as f32 + breadth + 4.0, "{breadth}: {width}");
                assert!(height.abs_diff(stem_height) <= 12, "{breadth}: {height}");
            }
        }
    }

    #[test]
    fn other_strokes_stay_as_they_are() {
        let bar = [[20.0, 12.0], [75.0, 12.0]];
        let others: [&[[[f32; 2]; 2]]; 9] = [
            &[STEM],
            // A 7, and some with a bar that falls a little.
            &[[[15.0, 32.0], [70.0, 12.0]], [[70.0, 12.0], [62.0, 105.0]]],
            &[bar, [[75.0, 12.0], [45.0, 105.0]]],
            &[[[15.0, 25.0], [70.0, 12.0]], [[70.0, 12.0], [50.0, 105.0]]],
            // A 4, open and closed.
            &[[[30.0, 10.0], [22.0, 60.0]], [[22.0, 60.0], [85.0, 60.0]], [[65.0, 10.0], [65.0, 105.0]]],
            &[[[60.0, 10.0], [20.0, 70.0]], [[20.0, 70.0], [85.0, 70.0]], [[60.0, 10.0], [60.0, 105.0]]],
            // A 9 of straight strokes: its bow returns to the stem.
            &[STEM, FLAG, [[25.0, 55.0], [57.0, 62.0]]],
            // A 2 of straight strokes, and an L.
            &[[[20.0, 20.0], [60.0, 12.0]], [[60.0, 12.0], [20.0, 105.0]], [[20.0, 105.0], [85.0, 105.0]]],
            &[[[20.0, 10.0], [20.0, 105.0]], [[20.0, 105.0], [80.0, 105.0]]],
        ];
        for (at, strokes) in others.into_iter().enumerate() {
            let map = drawn(strokes, 6.0);
            assert!(bare(Map { width: map.width, values: map.values.clone() }).values == map.values, "{at}");
        }
    }
}
