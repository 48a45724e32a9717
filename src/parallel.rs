//! Work that all cores of the machine share, by the names of rayon. A browser has one thread for it, which does it in turn.

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use rayon::{current_num_threads, current_thread_index, prelude::*, scope};

#[cfg(target_arch = "wasm32")]
pub(crate) use in_turn::*;

#[cfg(target_arch = "wasm32")]
mod in_turn {
    use std::slice::{Chunks, ChunksMut, Iter, IterMut};

    pub(crate) fn current_num_threads() -> usize {
        1
    }

    pub(crate) fn current_thread_index() -> Option<usize> {
        None
    }

    pub(crate) fn scope<T>(work: impl FnOnce(()) -> T) -> T {
        work(())
    }

    /// The parallel iterators of a slice, as those of the standard library.
    pub(crate) trait Slice<T> {
        fn par_iter(&self) -> Iter<'_, T>;
        fn par_iter_mut(&mut self) -> IterMut<'_, T>;
        fn par_chunks(&self, length: usize) -> Chunks<'_, T>;
        fn par_chunks_mut(&mut self, length: usize) -> ChunksMut<'_, T>;
    }

    impl<T> Slice<T> for [T] {
        fn par_iter(&self) -> Iter<'_, T> {
            self.iter()
        }

        fn par_iter_mut(&mut self) -> IterMut<'_, T> {
            self.iter_mut()
        }

        fn par_chunks(&self, length: usize) -> Chunks<'_, T> {
            self.chunks(length)
        }

        fn par_chunks_mut(&mut self, length: usize) -> ChunksMut<'_, T> {
            self.chunks_mut(length)
        }
    }

    /// The methods of parallel iterators that those of the standard library lack.
    pub(crate) trait InTurn: IntoIterator + Sized {
        fn into_par_iter(self) -> Self::IntoIter {
            self.into_iter()
        }

        fn with_max_len(self, _: usize) -> Self {
            self
        }

        fn flat_map_iter<I: IntoIterator>(self, map: impl FnMut(Self::Item) -> I) -> impl Iterator<Item = I::Item> {
            self.into_iter().flat_map(map)
        }
    }

    impl<I: IntoIterator> InTurn for I {}

    /// A collection to which a parallel iterator is added.
    pub(crate) trait ParExtend<T> {
        fn par_extend(&mut self, items: impl IntoIterator<Item = T>);
    }

    impl<T> ParExtend<T> for Vec<T> {
        fn par_extend(&mut self, items: impl IntoIterator<Item = T>) {
            self.extend(items);
        }
    }
}
