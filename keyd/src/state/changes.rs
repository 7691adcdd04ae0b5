//! How the vault becomes another, in memory and on the disk, one change at a time.
//!
//! Changes are made on a copy: what widens access is on the disk before it counts, what narrows it counts before it is on
//! the disk. What could not be written is tried again each second, and is not forgotten by locking. It refuses to put a
//! change in force whose file was not written, unless it takes access away. Called by `admin/`, and by `State::tick`.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use strongroom_protocol::admin::Failure;

use super::{Direction, State, now};
use crate::audit::record::{Event, EventKind, Record};
use crate::exchange::scrub::cache::Cache;
use crate::policy::live::Live;
use crate::vault::contents::Contents;
use crate::vault::room::Room;
use crate::vault::seen::NotOurs;
use crate::vault::writer::Old;
use crate::vault::{Keys, SlotKind, UnlockError, Unlocked, open_file};

impl State {
    /// Changes the vault: `edit` works on a copy whose generation is counted up. It may be called more than once, where
    /// access is taken away while the disk is being written.
    ///
    /// # Errors
    /// `Locked`; what `edit` says; `NotWritten` or `TakenButNotWritten` where the disk refuses.
    pub async fn change<T>(
        &self,
        direction: Direction,
        edit: impl Fn(&mut Contents) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        if direction == Direction::Narrowing {
            return self.narrow(edit).await;
        }
        self.rewrite(Old::Backup, Room::Widening, |_, contents| edit(contents).map(|outcome| (None, outcome))).await
    }

    /// Changes the ways to unlock: what `edit` gives are the keys from the moment in which the file has them. The backup
    /// is replaced too, for it opens with what was changed.
    ///
    /// # Errors
    /// `Locked`; what `edit` says; `NotWritten`.
    pub async fn change_slots<T>(
        &self,
        edit: impl Fn(&Keys, &mut Contents) -> Result<(Keys, T), Failure>,
    ) -> Result<T, Failure> {
        let edit =
            |keys: &Keys, contents: &mut Contents| edit(keys, contents).map(|(keys, outcome)| (Some(keys), outcome));
        self.rewrite(Old::Gone, Room::Narrowing, edit).await
    }

    /// On disk, then in force; with other keys where `edit` gives some.
    async fn rewrite<T>(
        &self,
        old: Old,
        room: Room,
        edit: impl Fn(&Keys, &mut Contents) -> Result<(Option<Keys>, T), Failure>,
    ) -> Result<T, Failure> {
        let _turn = self.changing.lock().await;
        loop {
            let (keys, live, turn) = self.in_force()?;
            let last = self.watch(&live);
            let ((others, outcome), mut contents) = Self::edited(&live, |contents| edit(&keys, contents))?;
            self.logbook.settle().await.map_err(|_| Failure::Audit)?;
            keys.make_room(&mut contents, room, now());
            let sealed = others.as_ref().unwrap_or(&keys).seal(&contents, room)?;
            self.write(sealed, old).await.map_err(|error| why(&error, Failure::NotWritten))?;
            self.log_knows(contents.generation);
            let is_open = self.open.borrow().as_ref().is_some_and(|open| open.turn == turn);
            let now = Rc::clone(&last.borrow());
            match others {
                others if is_open && Rc::ptr_eq(&now, &live) => {
                    self.unwritten.set(false);
                    self.take_keys(others);
                    self.install(contents);
                }
                // Access was taken away meanwhile: that stands. The file opens with the new keys alone by now, whatever
                // the disk does next, so they count, and what was taken away is written under them by whoever did it.
                Some(others) if !Rc::ptr_eq(&now, &live) => {
                    let mut on_top = now.contents().clone();
                    on_top.generation += 1;
                    (on_top.slots, on_top.next_id) = (contents.slots, contents.next_id);
                    if is_open {
                        self.take_keys(Some(others));
                        self.install(on_top);
                    } else if !self.leave(&others, &on_top) {
                        return Err(Failure::NotWritten);
                    }
                }
                // This change is made again on top of it.
                _ if is_open => continue,
                // Locked meanwhile: the file has the change, and all that was in force when it was made.
                _ => {
                    self.file_has(live.contents().generation);
                    // Unless access was taken away before the lock: what waits to be written has none of the change, and
                    // will take its place.
                    if self.pending.borrow().is_some() {
                        return Err(Failure::NotWritten);
                    }
                }
            }
            return Ok(outcome);
        }
    }

    /// In force at once, then on disk.
    async fn narrow<T>(&self, edit: impl Fn(&mut Contents) -> Result<T, Failure>) -> Result<T, Failure> {
        let (_, live, turn) = self.in_force()?;
        let (outcome, contents) = Self::edited(&live, &edit)?;
        self.install(contents);
        self.unwritten.set(true);
        let _turn = self.changing.lock().await;
        // Locked while this waited: it is in the file, or left to be written there, be it under a restored vault's keys.
        let Ok((_, live, now)) = self.in_force() else { return self.write_rest().await.map(|()| outcome) };
        // Locked and unlocked while this waited: the file was read without the change, so it is made again.
        if now != turn {
            let (_, contents) = Self::edited(&live, &edit)?;
            self.install(contents);
            self.unwritten.set(true);
        }
        self.write_now().await?;
        Ok(outcome)
    }

    /// Opens the vault with the key of a slot of such a kind: the file, or what it should be where it could not be written.
    ///
    /// # Errors
    /// As [`LockedVault::unlock`].
    pub fn unlock_vault(&self, key: &[u8], of: impl Fn(SlotKind) -> bool) -> Result<Unlocked, UnlockError> {
        let pending = self.pending.borrow().clone();
        match pending {
            Some((_, bytes)) => open_file(&bytes, key, of),
            None => self.vault.unlock(key, of),
        }
    }

    /// The vault as it should be on the disk: the file, or what is still to be written there.
    ///
    /// # Errors
    /// Where there is none, or it cannot be read or sealed.
    pub fn vault_bytes(&self) -> Result<Vec<u8>, Failure> {
        if let Some((_, bytes)) = &*self.pending.borrow() {
            return Ok(bytes.to_vec());
        }
        let file = self.vault.bytes();
        match self.in_force() {
            Ok((keys, live, _)) if self.is_unwritten() || file == Err(UnlockError::Uninitialised) => {
                Ok(keys.seal(live.contents(), Room::Narrowing)?)
            }
            _ => Ok(file?),
        }
    }

    /// Writes what narrowing left in memory alone; where the file has it, nothing: every write makes a new backup.
    ///
    /// # Errors
    /// `TakenButNotWritten` where the disk refuses.
    pub async fn write_what_was_taken(&self) -> Result<(), Failure> {
        let _turn = self.changing.lock().await;
        self.write_rest().await
    }

    /// The same, for whoever has the turn.
    async fn write_rest(&self) -> Result<(), Failure> {
        // Whoever had the turn before may have written it.
        if !self.is_unwritten() {
            return Ok(());
        }
        let pending = self.pending.borrow().clone();
        let Some((generation, bytes)) = pending else { return self.write_now().await };
        let written = self.write(bytes.to_vec(), Old::Backup).await;
        written.map_err(|error| why(&error, Failure::TakenButNotWritten))?;
        self.file_has(generation);
        Ok(())
    }

    /// Another vault was put in the place of the one that is open, or waits to be written: that one is locked, with nothing
    /// left of it, and whoever unlocks opens what is there.
    pub(super) fn let_go_of_another(self: &Rc<Self>) {
        if (self.live().is_none() && self.pending.borrow().is_none()) || !self.vault.is_exchanged() {
            return;
        }
        tracing::error!(
            lost = self.is_unwritten(),
            "another vault lies in the place of the one that was opened; the vault locks by itself"
        );
        self.unwritten.set(false);
        self.purged.set(false);
        self.lock_by_itself();
        self.pending.take();
        self.vault.seen().forget();
    }

    /// Leaves what could not be written to be written when the keys are gone: sealed, so that what was taken away does not
    /// come back with the next unlocking. Says whether it could be sealed.
    pub(super) fn leave(&self, keys: &Keys, contents: &Contents) -> bool {
        let sealed = keys.seal(contents, Room::Narrowing);
        self.unwritten.set(sealed.is_err());
        match sealed {
            Ok(sealed) => {
                *self.pending.borrow_mut() = Some((contents.generation, Rc::new(sealed)));
                self.log_knows(contents.generation);
                true
            }
            Err(error) => {
                tracing::error!(?error, "what was taken away cannot be kept, and is back with the next unlocking");
                false
            }
        }
    }

    /// The file has this generation: what is pending of it or of an older one is no news.
    fn file_has(&self, generation: u64) {
        self.pending.borrow_mut().take_if(|(pending, _)| *pending <= generation);
    }

    /// The file has a generation: where no line announced it, for changes were announced at one time or one of them takes
    /// two writes, the log is told, or the vault would look newer than the log.
    fn log_knows(&self, generation: u64) {
        if self.logbook.told().is_none_or(|told| told < generation) {
            let event = Event::new(EventKind::VaultGeneration).at_generation(generation);
            self.logbook.keep(Record::Event(event));
        }
    }

    /// Writes what is in force. For whoever has the turn.
    async fn write_now(&self) -> Result<(), Failure> {
        let (keys, live, _) = self.in_force().map_err(|_| Failure::TakenButNotWritten)?;
        let sealed = keys.seal(live.contents(), Room::Narrowing).map_err(|_| Failure::TakenButNotWritten)?;
        let written = self.write(sealed, Old::Backup).await;
        written.map_err(|error| why(&error, Failure::TakenButNotWritten))?;
        self.log_knows(live.contents().generation);
        self.file_has(live.contents().generation);
        // Whoever took something away meanwhile waits for their turn.
        if self.live().is_some_and(|now| Rc::ptr_eq(&now, &live)) {
            self.unwritten.set(false);
        }
        Ok(())
    }

    /// Values were taken out of the records: from the next file on, none beside it may have them either.
    pub fn was_purged(&self) {
        self.purged.set(true);
    }

    /// Puts a file in the vault's place; where something was purged, no older one stays beside it.
    async fn write(&self, sealed: Vec<u8>, old: Old) -> io::Result<()> {
        let is_purged = self.purged.take();
        let old = if is_purged { Old::Gone } else { old };
        let written = self.worker.write_vault(sealed, old, self.vault.seen()).await;
        if is_purged && written.is_err() {
            self.purged.set(true);
        }
        written
    }

    /// Puts other contents, under other keys, in the file's place, keeps the old file aside, and locks: whoever unlocks
    /// reads what is there. `keep` takes over what has to outlive the vault that is there, where one is open, and writes
    /// down that it is replaced; `take` takes away what was taken away between the first and the second.
    ///
    /// # Errors
    /// `Locked`, where the vault was locked before its turn came; what `keep` says; `NotWritten`, or why they cannot be
    /// sealed. Nothing is changed then.
    pub async fn replace(
        self: &Rc<Self>,
        keys: &Keys,
        contents: &mut Contents,
        keep: impl FnOnce(&Contents, &mut Contents) -> Result<(), Failure>,
        take: impl FnOnce(&Contents, &Contents, &mut Contents),
    ) -> Result<(), Failure> {
        let judged = self.live();
        let _turn = self.changing.lock().await;
        // In force now: another change may have been on its way to the disk when this was asked.
        let there = self.live();
        // Of a vault that was locked since nothing can be kept.
        if judged.is_some() && there.is_none() {
            return Err(Failure::Locked);
        }
        let last = there.as_ref().map(|live| self.watch(live));
        if let Some(live) = &there {
            keep(live.contents(), contents)?;
        }
        self.logbook.settle().await.map_err(|_| Failure::Audit)?;
        keys.make_room(contents, Room::Restoring, now());
        let sealed = keys.seal(contents, Room::Restoring)?;
        let written = self.worker.write_vault(sealed, Old::Aside, self.vault.seen()).await;
        written.map_err(|_| Failure::NotWritten)?;
        // What could not be written was of the vault that is aside now.
        self.unwritten.set(false);
        self.purged.set(false);
        self.pending.take();
        // But what was taken away since this was judged stands: nobody who did it knew what would come back.
        let now = last.map(|last| Rc::clone(&last.borrow()));
        let taken = judged.zip(now).filter(|(judged, now)| !Rc::ptr_eq(judged, now));
        if let Some((judged, now)) = &taken {
            take(judged.contents(), now.contents(), contents);
        }
        // What is locked is what whoever unlocks will find.
        if self.live().is_some() {
            self.lock_leaving(contents.generation);
        } else if there.is_some() {
            self.log_knows(contents.generation);
        }
        if taken.is_some() {
            self.leave(keys, contents);
        }
        Ok(())
    }

    /// Waits until nobody else is at what a proof allowed. Whoever holds this judges a proof by keys that stay until the
    /// end of what it allows: of two who change the passphrase at once, the second has the wrong one.
    pub async fn one_proof_at_a_time(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.proving.lock().await
    }

    /// Waits until no change is on its way to the disk, and keeps others from starting. For unlocking, which reads what
    /// is there.
    pub async fn no_change_under_way(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.changing.lock().await
    }

    fn in_force(&self) -> Result<(Rc<Keys>, Rc<Live>, u64), Failure> {
        let open = self.open.borrow();
        let open = open.as_ref().ok_or(Failure::Locked)?;
        Ok((Rc::clone(&open.keys), Rc::clone(&open.live), open.turn))
    }

    /// What is in force from now on, as long as somebody holds this; also after a lock, what was last.
    fn watch(&self, live: &Rc<Live>) -> Rc<RefCell<Rc<Live>>> {
        let last = Rc::new(RefCell::new(Rc::clone(live)));
        self.watched.replace(Rc::downgrade(&last));
        last
    }

    fn take_keys(&self, keys: Option<Keys>) {
        if let (Some(keys), Some(open)) = (keys, self.open.borrow_mut().as_mut()) {
            open.keys = Rc::new(keys);
        }
    }

    fn edited<T>(live: &Live, edit: impl Fn(&mut Contents) -> Result<T, Failure>) -> Result<(T, Contents), Failure> {
        let mut contents = live.contents().clone();
        contents.generation += 1;
        let outcome = edit(&mut contents)?;
        Ok((outcome, contents))
    }

    fn install(&self, contents: Contents) {
        if let Some(open) = self.open.borrow_mut().as_mut() {
            open.live = Rc::new(Live::new(contents));
            if let Some(last) = self.watched.borrow().upgrade() {
                last.replace(Rc::clone(&open.live));
            }
            open.patterns = Cache::default();
        }
        self.trust.forget();
        self.gateways.announce(self);
    }
}

/// Why nothing was written: where the vault is not in its place, making room on the disk does not help.
fn why(error: &io::Error, otherwise: Failure) -> Failure {
    NotOurs::of(error).map_or(otherwise, Failure::Vault)
}

#[cfg(test)]
#[path = "changes_tests.rs"]
mod tests;
