//! The ranks that `mpirun` started share the runs of a sweep: rank 0 deals them out, writes and prints; the others train.
//!
//! Ranks post letters to each other. Each shows by a beat that it is still there: a rank that is silent for too long is
//! lost, and its run is for another to do. Silence is counted in looks for letters, not in time, so that ranks that were all
//! paused are not taken for lost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use softstep::checkpoint;
use softstep::ranks::Ranks;

use super::trial::{Ended, Trained, Trial};
use crate::commands::train::options::TrainArgs;

/// Pause between two looks for letters.
const PAUSE: Duration = Duration::from_millis(1);
/// Time between two beats.
const BEAT: Duration = Duration::from_millis(500);
/// Looks for letters in which a rank says nothing, after which it is lost.
const SILENCE: usize = 5_000;
/// Looks for letters in which rank 0 says nothing, after which it is lost. They are more than for another rank: without
/// rank 0 there is nothing to do.
const SILENCE_OF_FIRST: usize = 4 * SILENCE;

/// A share of a run, to be trained.
#[derive(Serialize, Deserialize)]
struct Job {
    number: usize,
    arguments: Vec<String>,
    share: usize,
    before: Option<Ended>,
}

/// A message between rank 0 and another.
#[derive(Serialize, Deserialize)]
enum Letter {
    /// The sender is still there.
    Beat,
    /// To be trained, from the state that the letter brings, if any.
    Job(Box<Job>),
    /// Result of a job, and the state that it ended or stopped in, if any.
    Answer(Option<Box<Ended>>),
    /// The job is to stop after its step.
    Stop,
    /// There are no more jobs. `in_order` if no rank was lost.
    End { in_order: bool },
}

/// Posts a letter, with the bytes of a checkpoint or none.
fn post(ranks: &dyn Ranks, to: usize, letter: &Letter, state: &[u8]) -> Result<()> {
    let letter = serde_json::to_vec(letter)?;
    let message = [&(letter.len() as u64).to_le_bytes(), &letter[..], state].concat();
    Ok(ranks.post(to, &message)?)
}

/// Takes a letter that has arrived.
fn poll(ranks: &dyn Ranks, from: usize) -> Result<Option<(Letter, Vec<u8>)>> {
    let Some(message) = ranks.poll(from)? else { return Ok(None) };
    let parts = message.split_first_chunk::<8>().and_then(|(length, rest)| {
        let (letter, state) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
        Some((serde_json::from_slice(letter).ok()?, state.to_vec()))
    });
    match parts {
        Some(letter) => Ok(Some(letter)),
        None => bail!("rank {from} sent what this softstep does not understand"),
    }
}

/// An answer, or why there is none.
type Answer = Result<(Option<Box<Ended>>, Vec<u8>)>;

/// The other ranks, for rank 0, which deals out runs to them.
pub struct Crew {
    ranks: Arc<dyn Ranks>,
    /// Answers of each rank; a rank that is lost sends no more.
    answers: Vec<Mutex<Receiver<Answer>>>,
    has_ended: Arc<AtomicBool>,
    /// Thread that takes the letters; returns true if a rank was lost.
    postman: Option<JoinHandle<bool>>,
}

impl Crew {
    /// Starts to take letters of the other ranks.
    pub fn new(ranks: &Arc<dyn Ranks>) -> Result<Self> {
        let (senders, answers): (Vec<_>, Vec<_>) = (0..ranks.size()).map(|_| channel()).unzip();
        let has_ended = Arc::new(AtomicBool::new(false));
        let postman = {
            let (ranks, has_ended) = (Arc::clone(ranks), Arc::clone(&has_ended));
            std::thread::Builder::new().spawn(move || take_letters(&*ranks, senders, &has_ended))?
        };
        let answers = answers.into_iter().map(Mutex::new).collect();
        Ok(Self { ranks: Arc::clone(ranks), answers, has_ended, postman: Some(postman) })
    }

    /// Has a rank train a share of a run; `None` if the rank is lost.
    pub fn train(
        &self,
        rank: usize,
        trial: &Trial,
        share: usize,
        state: Option<&[u8]>,
        stop: &AtomicBool,
    ) -> Result<Option<Trained>> {
        let arguments = trial.args.arguments.iter().skip(1).cloned().collect();
        let job = Job { number: trial.number, arguments, share, before: trial.before.clone() };
        let answers = self.answers[rank].lock().unwrap_or_else(PoisonError::into_inner);
        post(&*self.ranks, rank, &Letter::Job(Box::new(job)), state.unwrap_or_default())?;
        let mut is_told = false;
        let (ended, state) = loop {
            match answers.recv_timeout(10 * PAUSE) {
                Ok(answer) => break answer?,
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) if !is_told && stop.load(Ordering::Relaxed) => {
                    post(&*self.ranks, rank, &Letter::Stop, &[])?;
                    is_told = true;
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        };
        let state = (!state.is_empty()).then(|| checkpoint::from_safetensors("state", &state)).transpose()?;
        Ok(Some(Trained { ended: ended.map(|ended| *ended), state }))
    }

    /// Sends the other ranks home; returns true if all of them are there.
    pub fn end(mut self) -> Result<bool> {
        let in_order = !self.join();
        (1..self.ranks.size()).try_for_each(|rank| post(&*self.ranks, rank, &Letter::End { in_order }, &[]))?;
        Ok(in_order)
    }

    /// Takes no more letters; returns true if a rank was lost.
    fn join(&mut self) -> bool {
        self.has_ended.store(true, Ordering::Relaxed);
        self.postman.take().is_some_and(|postman| postman.join().unwrap_or(true))
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.join();
    }
}

/// Takes the letters of the other ranks until the end of the sweep, and shows that rank 0 is still there; returns true if a
/// rank was lost.
fn take_letters(ranks: &dyn Ranks, senders: Vec<Sender<Answer>>, has_ended: &AtomicBool) -> bool {
    let mut others: Vec<_> = senders.into_iter().enumerate().skip(1).map(|(rank, sender)| (rank, sender, 0)).collect();
    let (mut is_any_lost, mut last_beat) = (false, None::<Instant>);
    while !has_ended.load(Ordering::Relaxed) {
        let beats = last_beat.is_none_or(|at| at.elapsed() >= BEAT);
        if beats {
            last_beat = Some(Instant::now());
        }
        others.retain_mut(|(rank, sender, silence)| {
            if beats && post(ranks, *rank, &Letter::Beat, &[]).is_err() {
                return false;
            }
            match poll(ranks, *rank) {
                Ok(Some((letter, state))) => {
                    *silence = 0;
                    if let Letter::Answer(ended) = letter {
                        let _ = sender.send(Ok((ended, state)));
                    }
                }
                Ok(None) => *silence += 1,
                Err(error) => {
                    let _ = sender.send(Err(error));
                    return false;
                }
            }
            let is_lost = *silence > SILENCE;
            is_any_lost |= is_lost;
            !is_lost
        });
        std::thread::sleep(PAUSE);
    }
    is_any_lost
}

/// Trains what rank 0 deals out to this rank, until it ends; returns true if MPI can end in order.
pub fn serve(
    ranks: &dyn Ranks,
    stop: &AtomicBool,
    train: impl Fn(&Trial, usize, Option<&[u8]>) -> Result<Trained> + Sync,
) -> Result<bool> {
    let mut post_office = PostOffice { ranks, last_beat: Instant::now(), silence: 0 };
    loop {
        match post_office.look()? {
            Some((Letter::Job(job), state)) => {
                let trained = post_office.train(*job, &state, stop, &train)?;
                let state = match &trained.state {
                    Some((metadata, state)) => checkpoint::to_safetensors(metadata, state)?,
                    None => Vec::new(),
                };
                post(ranks, 0, &Letter::Answer(trained.ended.map(Box::new)), &state)?;
            }
            Some((Letter::Stop, _)) => stop.store(true, Ordering::Relaxed),
            Some((Letter::End { in_order }, _)) => return Ok(in_order),
            Some((Letter::Beat | Letter::Answer(_), _)) => {}
            None => std::thread::sleep(PAUSE),
        }
    }
}

/// Letters of rank 0 at another rank.
struct PostOffice<'a> {
    ranks: &'a dyn Ranks,
    last_beat: Instant,
    /// Looks in which there was no letter.
    silence: usize,
}

impl PostOffice<'_> {
    /// Takes a letter of rank 0, and shows that this rank is still there.
    fn look(&mut self) -> Result<Option<(Letter, Vec<u8>)>> {
        if self.last_beat.elapsed() >= BEAT {
            self.last_beat = Instant::now();
            post(self.ranks, 0, &Letter::Beat, &[])?;
        }
        let letter = poll(self.ranks, 0)?;
        self.silence = if letter.is_some() { 0 } else { self.silence + 1 };
        if self.silence > SILENCE_OF_FIRST {
            bail!("rank 0 was killed, or does not answer");
        }
        Ok(letter)
    }

    /// Trains in another thread, and goes on to look for letters meanwhile.
    fn train(
        &mut self,
        job: Job,
        state: &[u8],
        stop: &AtomicBool,
        train: &(impl Fn(&Trial, usize, Option<&[u8]>) -> Result<Trained> + Sync),
    ) -> Result<Trained> {
        let Job { number, arguments, share, before } = job;
        let trial = Trial { number, choice: Vec::new(), args: TrainArgs::parse(arguments)?, before };
        std::thread::scope(|scope| {
            let (done, is_done) = channel();
            // An error of another rank ends the loop below, and with it the receiver.
            scope.spawn(move || drop(done.send(train(&trial, share, (!state.is_empty()).then_some(state)))));
            loop {
                match is_done.recv_timeout(PAUSE) {
                    Ok(trained) => return trained,
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => bail!("the run has panicked"),
                }
                match self.look() {
                    Ok(Some((Letter::Stop, _))) => stop.store(true, Ordering::Relaxed),
                    Ok(_) => {}
                    Err(error) => {
                        stop.store(true, Ordering::Relaxed);
                        return Err(error);
                    }
                }
            }
        })
    }
}
