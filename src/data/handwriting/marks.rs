//! Grouping of ink into digits, side by side in a line, and of lines below one another.

use super::{Piece, Pieces, SPECK};

/// Least height of a digit, as a share of that of most.
const LEAST: f32 = 0.5;
/// Most distance of a part from its digit, as a share of the height of most digits.
const NEAR: f32 = 0.25;
/// Least share of the narrower of two parts of a digit that is below or above the other.
const STACKED: f32 = 0.5;
/// Most distance between two such parts, as a share of the height of most digits.
const STACKED_GAP: f32 = 0.15;
/// Least overlap of the boxes of two strokes of one digit, as a share of the smaller.
const CROSSED: f32 = 0.3;
/// Least width of digits that touch, as a share of the height. Of MNIST's test digits 4 % are as wide.
const TOUCHING: f32 = 1.2;

/// A digit's ink.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Mark {
    /// Indices of its pieces.
    pub(super) pieces: Vec<usize>,
    /// Left, top, right and bottom.
    pub(super) corners: [usize; 4],
    /// Row, from 0.
    pub(super) row: usize,
    /// True if it is as wide as two digits.
    pub(super) is_wide: bool,
}

impl Mark {
    fn size(&self, along: usize) -> f32 {
        (self.corners[along + 2] - self.corners[along] + 1) as f32
    }

    /// The gap between two along x or y; negative where they overlap.
    fn gap(&self, other: &Self, along: usize) -> f32 {
        let (first, last) =
            (self.corners[along].max(other.corners[along]), self.corners[along + 2].min(other.corners[along + 2]));
        first as f32 - last as f32 - 1.0
    }

    fn take(&mut self, other: Self) {
        self.pieces.extend(other.pieces);
        let ([left, top, right, bottom], of) = (self.corners, other.corners);
        self.corners = [left.min(of[0]), top.min(of[1]), right.max(of[2]), bottom.max(of[3])];
    }
}

/// Groups the pieces of a picture to digits, in reading order.
pub(super) fn marks(pieces: &Pieces) -> Vec<Mark> {
    let is_own: Vec<bool> = pieces.all.iter().map(|piece| pieces.is_own(piece)).collect();
    let own = || pieces.all.iter().enumerate().filter(|&(at, _)| is_own[at]);
    let Some(largest) = own().map(|(_, piece)| piece.size).max() else { return Vec::new() };
    let mark = |(at, piece): (usize, &Piece)| Mark { pieces: vec![at], corners: piece.corners, row: 0, is_wide: false };
    let kept = own().filter(|(_, piece)| piece.size as f32 >= 0.25 * SPECK * largest as f32);
    let mut marks: Vec<Mark> = kept.map(mark).collect();
    // The height of most: of those that are no specks.
    let mut heights: Vec<f32> =
        own().filter(|(_, piece)| piece.size as f32 >= 0.2 * largest as f32).map(|at| mark(at).size(1)).collect();
    heights.sort_by(f32::total_cmp);
    let height = heights[heights.len() / 2];
    // Strokes of one digit first, then what is small joins the nearest.
    let is_one = |a: &Mark, b: &Mark| {
        let narrower = a.size(0).min(b.size(0));
        let is_stacked = -a.gap(b, 0) >= STACKED * narrower && a.gap(b, 1) <= STACKED_GAP * height;
        let overlap = a.gap(b, 0).min(0.0) * a.gap(b, 1).min(0.0);
        let smaller = (a.size(0) * a.size(1)).min(b.size(0) * b.size(1));
        is_stacked || overlap >= CROSSED * smaller
    };
    while let Some((a, b)) = pairs(marks.len()).find(|&(a, b)| is_one(&marks[a], &marks[b])) {
        let other = marks.remove(b);
        marks[a].take(other);
    }
    let (mut digits, small): (Vec<Mark>, Vec<Mark>) =
        marks.into_iter().partition(|mark| mark.size(1) >= LEAST * height);
    for part in small {
        let gap = |digit: &Mark| digit.gap(&part, 0).max(digit.gap(&part, 1));
        if let Some(digit) = digits.iter_mut().min_by(|a, b| gap(a).total_cmp(&gap(b)))
            && gap(digit) <= NEAR * height
        {
            digit.take(part);
        }
    }
    for digit in &mut digits {
        digit.is_wide = digit.size(0) >= TOUCHING * digit.size(1);
    }
    in_reading_order(digits)
}

fn pairs(count: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..count).flat_map(move |a| (a + 1..count).map(move |b| (a, b)))
}

/// Sorts marks into rows: a mark is in the row whose last mark, to its left, it overlaps most.
fn in_reading_order(mut marks: Vec<Mark>) -> Vec<Mark> {
    marks.sort_by_key(|mark| mark.corners[0]);
    let mut rows: Vec<Vec<Mark>> = Vec::new();
    for mark in marks {
        let overlap = |row: &Vec<Mark>| {
            let last = &row[row.len() - 1];
            -last.gap(&mark, 1) / last.size(1).min(mark.size(1))
        };
        match rows.iter_mut().max_by(|a, b| overlap(a).total_cmp(&overlap(b))) {
            Some(row) if overlap(row) >= 0.4 => row.push(mark),
            _ => rows.push(vec![mark]),
        }
    }
    let middle = |row: &Vec<Mark>| row.iter().map(|mark| mark.corners[1] + mark.corners[3]).sum::<usize>() / row.len();
    rows.sort_by_key(middle);
    let numbered = rows.into_iter().enumerate();
    numbered.flat_map(|(row, marks)| marks.into_iter().map(move |mark| Mark { row, ..mark })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pieces of ink with these corners.
    fn pieces(corners: &[[usize; 4]]) -> Pieces {
        let piece = |&corners: &[usize; 4]| {
            let [left, top, right, bottom] = corners;
            Piece { size: (right - left + 1) * (bottom - top + 1) / 3, corners, is_cut_off: false }
        };
        Pieces { all: corners.iter().map(piece).collect(), of: Vec::new() }
    }

    #[test]
    fn marks_are_in_reading_order_also_where_lines_climb() {
        let mut corners = Vec::new();
        for row in 0..3 {
            for column in (0..5).rev() {
                let (left, top) = (column * 50, 200 + row * 70 - column * 15);
                corners.push([left, top, left + 25, top + 40]);
            }
        }
        let marks = marks(&pieces(&corners));
        let places: Vec<_> = marks.iter().map(|mark| (mark.row, mark.corners[0] / 50)).collect();
        assert_eq!(places, (0..15).map(|at| (at / 5, at % 5)).collect::<Vec<_>>());
    }

    #[test]
    fn strokes_of_one_digit_belong_together_and_specks_to_none() {
        // A five with its bar apart, a four of two strokes, and a speck between.
        let five = [[10, 20, 40, 70], [30, 10, 50, 15]];
        let four = [[100, 10, 125, 45], [115, 20, 130, 70]];
        let marks = marks(&pieces(&[five[0], four[1], [75, 60, 77, 62], five[1], four[0]]));
        assert_eq!(marks.iter().map(|mark| mark.corners).collect::<Vec<_>>(), [[10, 10, 50, 70], [100, 10, 130, 70]]);
        assert!(marks.iter().all(|mark| mark.pieces.len() == 2 && !mark.is_wide));
    }

    #[test]
    fn what_is_wide_may_be_two_digits() {
        let marks = marks(&pieces(&[[0, 0, 40, 60], [60, 0, 140, 60]]));
        assert_eq!(marks.iter().map(|mark| mark.is_wide).collect::<Vec<_>>(), [false, true]);
    }
}
