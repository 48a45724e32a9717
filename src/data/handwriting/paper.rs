//! A sheet of paper seen whole on a darker table, or a board on a lighter wall: found by its four straight edges, and
//! brought upright.

use image::{GrayImage, Luma};

use super::{Map, neighbours, otsu, shrunk};

/// Longer side of the copy in which the sheet is looked for, in pixels.
const SIDE: u32 = 160;
/// Least and largest size of a sheet, as shares of the picture.
const AREA: [f64; 2] = [0.06, 0.96];
/// Most of the sheet that may lie outside its four corners, or be missing within them, as a share.
const STRAIGHT: f64 = 0.1;
/// Most of the sheet that is ink.
const INK: f64 = 0.3;
/// Most of the picture's border that the sheet covers: it may leave the picture at one side.
const CUT: f64 = 0.3;
/// Least difference of brightness between the sheet and the ground, in grey levels of 255.
const DIFFERENCE: f32 = 35.0;
/// Width of the rim of the sheet that is left out, with its shadows, as a share.
const RIM: f64 = 0.02;
/// Longest side of the upright picture, in pixels.
const LONGEST: f64 = 1600.0;

/// A point, or a difference of two.
type Point = [f64; 2];

/// A sheet in a picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sheet {
    /// Corners in pixels of the picture: top left, top right, bottom right, bottom left.
    corners: [Point; 4],
}

impl Sheet {
    /// Finds the sheet; `None` if the picture shows nothing but paper, or no straight edges.
    pub(super) fn find(picture: &GrayImage) -> Option<Self> {
        let small = shrunk(picture, SIDE);
        let threshold = otsu(&small.values)?;
        let corners = [true, false].into_iter().find_map(|is_light| corners(&small, threshold, is_light))?;
        let scale = f64::from(picture.width()) / small.width as f64;
        // The middle of a pixel of the copy is not the middle of its first one.
        Some(Self { corners: corners.map(|corner| corner.map(|along| along * scale)) })
    }

    /// The sheet without its rim, upright.
    pub(super) fn upright(&self, picture: &GrayImage) -> GrayImage {
        let [width, height] = self.size();
        let (last_x, last_y) = (picture.width() - 1, picture.height() - 1);
        // Several samples for each pixel, where the sheet is made smaller.
        let steps = ((self.longest() / LONGEST).ceil() as u32).max(1);
        GrayImage::from_fn(width, height, |x, y| {
            let mut sum = 0.0;
            for sample in 0..steps * steps {
                let inside = |at: u32, step: u32| f64::from(at) + (f64::from(step) + 0.5) / f64::from(steps);
                let [x, y] = self.place([inside(x, sample % steps), inside(y, sample / steps)]);
                let (x, y) = (x - 0.5, y - 0.5);
                let pixel = |x: f64, y: f64| {
                    let (x, y) = (x.clamp(0.0, last_x.into()), y.clamp(0.0, last_y.into()));
                    f64::from(picture.get_pixel(x as u32, y as u32)[0])
                };
                let (u, v, x, y) = (x - x.floor(), y - y.floor(), x.floor(), y.floor());
                let above = pixel(x, y) * (1.0 - u) + pixel(x + 1.0, y) * u;
                let below = pixel(x, y + 1.0) * (1.0 - u) + pixel(x + 1.0, y + 1.0) * u;
                sum += above * (1.0 - v) + below * v;
            }
            Luma([(sum / f64::from(steps * steps)).round() as u8])
        })
    }

    /// Its area in the picture, in pixels.
    pub(super) fn area(&self) -> f64 {
        let cross = |at: usize| {
            let ([x, y], [next_x, next_y]) = (self.corners[at], self.corners[(at + 1) % 4]);
            x * next_y - next_x * y
        };
        (0..4).map(cross).sum::<f64>() / 2.0
    }

    fn longest(&self) -> f64 {
        let sides = (0..4).map(|at| distance(self.corners[at], self.corners[(at + 1) % 4]));
        sides.fold(0.0, f64::max)
    }

    /// Width and height of the upright picture.
    fn size(&self) -> [u32; 2] {
        let [a, b, c, d] = self.corners;
        let scale = (LONGEST / self.longest()).min(1.0) * (1.0 - 2.0 * RIM);
        [(distance(a, b) + distance(d, c)) / 2.0, (distance(a, d) + distance(b, c)) / 2.0]
            .map(|side| (side * scale).round().max(1.0) as u32)
    }

    /// The place in the picture of a point of the upright sheet: the perspective that takes its corners to the sheet's.
    pub(super) fn place(&self, point: Point) -> Point {
        let size = self.size();
        let [u, v] = [0, 1].map(|along| RIM + (1.0 - 2.0 * RIM) * point[along] / f64::from(size[along]));
        let [a, b, c, d] = self.corners;
        // P. Heckbert (1989): the unit square to a quadrilateral.
        let [e, f, g] = [0, 1].map(|i| [b[i] - c[i], d[i] - c[i], a[i] - b[i] + c[i] - d[i]]).transposed();
        let cross = |p: Point, q: Point| p[0] * q[1] - p[1] * q[0];
        let (p, q) = (cross(g, f) / cross(e, f), cross(e, g) / cross(e, f));
        let along = |i: usize| {
            let (x, y) = (b[i] - a[i] + p * b[i], d[i] - a[i] + q * d[i]);
            (x * u + y * v + a[i]) / (p * u + q * v + 1.0)
        };
        [along(0), along(1)]
    }
}

/// Three pairs from a pair of threes.
trait Transposed {
    fn transposed(self) -> [Point; 3];
}

impl Transposed for [[f64; 3]; 2] {
    fn transposed(self) -> [Point; 3] {
        [0, 1, 2].map(|at| [self[0][at], self[1][at]])
    }
}

fn distance(a: Point, b: Point) -> f64 {
    (a[0] - b[0]).hypot(a[1] - b[1])
}

/// The corners of the one large quadrilateral on this side of the threshold.
fn corners(map: &Map, threshold: f32, is_light: bool) -> Option<[Point; 4]> {
    let (width, height) = (map.width, map.height());
    let is_sheet = |at: usize| (map.values[at] > threshold) == is_light;
    let whole = map.values.len() as f64;
    let component = largest(map, &is_sheet)?;
    let size = component.iter().filter(|&&is_in| is_in).count() as f64;
    let is_border = |at: &usize| {
        let (x, y) = map.place(*at);
        x == 0 || y == 0 || x + 1 == width || y + 1 == height
    };
    // What cannot be reached from the border without crossing the sheet is ink on it.
    let mut is_outside = vec![false; component.len()];
    let mut reached: Vec<usize> = (0..component.len()).filter(|at| is_border(at) && !component[*at]).collect();
    reached.iter().for_each(|&at| is_outside[at] = true);
    while let Some(at) = reached.pop() {
        for next in neighbours(map, at, 1) {
            if !component[next] && !is_outside[next] {
                is_outside[next] = true;
                reached.push(next);
            }
        }
    }
    let filled = is_outside.iter().filter(|&&is_outside| !is_outside).count() as f64;
    let border = (0..component.len()).filter(is_border).count() as f64;
    let cut = (0..component.len()).filter(|at| is_border(at) && component[*at]).count() as f64;
    if filled < AREA[0] * whole || filled > AREA[1] * whole || cut > CUT * border {
        return None;
    }
    if filled - size > INK * filled {
        return None;
    }
    let mean = |of: &dyn Fn(usize) -> bool| {
        let values = (0..component.len()).filter(|&at| of(at)).map(|at| f64::from(map.values[at]));
        let (count, sum) = values.fold((0.0, 0.0), |(count, sum), value| (count + 1.0, sum + value));
        (sum / f64::max(count, 1.0)) as f32
    };
    if (mean(&|at| component[at]) - mean(&|at| is_outside[at])).abs() < DIFFERENCE {
        return None;
    }
    // The corners of pixels at the edge.
    let edge: Vec<Point> = (0..component.len())
        .filter(|&at| !is_outside[at] && (is_border(&at) || neighbours(map, at, 1).any(|next| is_outside[next])))
        .flat_map(|at| {
            let (x, y) = map.place(at);
            [[x, y], [x + 1, y], [x, y + 1], [x + 1, y + 1]].map(|corner| corner.map(|along| along as f64))
        })
        .collect();
    let upright = (-45..45).map(|degrees| f64::from(degrees).to_radians());
    let turned = |angle: f64, [x, y]: Point| [x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()];
    let extent = |angle: f64| {
        let [low, high] = edge.iter().fold([[f64::MAX; 2], [f64::MIN; 2]], |[low, high], &point| {
            let point = turned(angle, point);
            [[low[0].min(point[0]), low[1].min(point[1])], [high[0].max(point[0]), high[1].max(point[1])]]
        });
        (high[0] - low[0]) * (high[1] - low[1])
    };
    let angle = upright.min_by(|&a, &b| extent(a).total_cmp(&extent(b)))?;
    let corner = |[towards_x, towards_y]: Point| {
        let along = |point: &Point| {
            let [x, y] = turned(angle, *point);
            x * towards_x + y * towards_y
        };
        edge.iter().copied().max_by(|a, b| along(a).total_cmp(&along(b)))
    };
    let corners = [corner([-1.0, -1.0])?, corner([1.0, -1.0])?, corner([1.0, 1.0])?, corner([-1.0, 1.0])?];
    let is_inside = |at: usize| {
        let (x, y) = map.place(at);
        let [x, y] = [x, y].map(|along| along as f64 + 0.5);
        (0..4).all(|at| {
            let ([a_x, a_y], [b_x, b_y]) = (corners[at], corners[(at + 1) % 4]);
            (b_x - a_x) * (y - a_y) >= (b_y - a_y) * (x - a_x)
        })
    };
    let stray = (0..component.len()).filter(|&at| is_inside(at) == is_outside[at]).count() as f64;
    let shortest = (0..4).map(|at| distance(corners[at], corners[(at + 1) % 4])).fold(f64::MAX, f64::min);
    (stray <= STRAIGHT * filled && shortest >= 8.0).then_some(corners)
}

/// The largest connected component of what is on one side.
fn largest(map: &Map, is_in: &dyn Fn(usize) -> bool) -> Option<Vec<bool>> {
    let mut component_of = vec![usize::MAX; map.values.len()];
    let mut sizes = Vec::new();
    for start in 0..component_of.len() {
        if component_of[start] != usize::MAX || !is_in(start) {
            continue;
        }
        let (mut size, mut reached) = (0usize, vec![start]);
        component_of[start] = sizes.len();
        while let Some(at) = reached.pop() {
            size += 1;
            for next in neighbours(map, at, 1) {
                if component_of[next] == usize::MAX && is_in(next) {
                    component_of[next] = sizes.len();
                    reached.push(next);
                }
            }
        }
        sizes.push(size);
    }
    let best = (0..sizes.len()).max_by_key(|&at| sizes[at])?;
    Some(component_of.into_iter().map(|component| component == best).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sheet of 200×150 turned by so many degrees in the middle of a picture of 400×300, with a stroke on it.
    fn table(degrees: f64, paper: u8, ground: u8, ink: u8) -> GrayImage {
        let (sin, cos) = degrees.to_radians().sin_cos();
        GrayImage::from_fn(400, 300, |x, y| {
            let (x, y) = (f64::from(x) + 0.5 - 200.0, f64::from(y) + 0.5 - 150.0);
            let (x, y) = (x * cos + y * sin, y * cos - x * sin);
            let is_stroke = (50.0..60.0).contains(&x) && (-40.0..40.0).contains(&y);
            Luma([if x.abs() > 100.0 || y.abs() > 75.0 {
                ground
            } else if is_stroke {
                ink
            } else {
                paper
            }])
        })
    }

    #[test]
    fn a_sheet_is_brought_upright_and_its_places_are_those_of_the_picture() {
        for (degrees, paper, ground, ink) in [(0.0, 220, 60, 30), (8.0, 220, 60, 30), (-12.0, 40, 160, 230)] {
            let picture = table(degrees, paper, ground, ink);
            let sheet = Sheet::find(&picture).unwrap();
            let upright = sheet.upright(&picture);
            assert!(upright.width().abs_diff(192) <= 8 && upright.height().abs_diff(144) <= 8, "{degrees}");
            // The stroke is upright, and nothing is left of the ground.
            let is_ink = |pixel: &Luma<u8>| pixel[0].abs_diff(ink) < 40;
            let inked = upright.enumerate_pixels().filter(|(.., pixel)| is_ink(pixel));
            let [left, right] = inked.fold([u32::MAX, 0], |[left, right], (x, ..)| [left.min(x), right.max(x)]);
            assert!((8..=14).contains(&(right - left + 1)), "{degrees}: {left} to {right}");
            let middle = sheet.place([f64::from(left + right + 1) / 2.0, f64::from(upright.height()) / 2.0]);
            let (sin, cos) = degrees.to_radians().sin_cos();
            let expected = [200.0 + 55.0 * cos, 150.0 + 55.0 * sin];
            assert!(distance(middle, expected) <= 3.0, "{degrees}: {middle:?} {expected:?}");
        }
    }

    #[test]
    fn paper_that_fills_the_picture_shadows_and_strokes_are_no_sheets() {
        let pictures: [fn(u32, u32) -> u8; 4] = [
            |x, y| if (180..190).contains(&x) && (50..250).contains(&y) { 20 } else { 220 },
            |x, y| if x + y / 3 > 200 { 210 } else { 150 },
            |x, y| if x.abs_diff(200).pow(2) + y.abs_diff(150).pow(2) < 90 * 90 { 230 } else { 60 },
            |_, _| 128,
        ];
        for (at, picture) in pictures.into_iter().enumerate() {
            let picture = GrayImage::from_fn(400, 300, |x, y| Luma([picture(x, y)]));
            let sheet = Sheet::find(&picture);
            assert!(sheet.is_none(), "{at}: {sheet:?}");
        }
    }
}
