//! Before-images and steps of containments, all fenced by the driver's lease; and what was learnt of the
//! cloud, which is nobody's alone.

use super::disk::Disk;
use crate::domain::containment::folding::Folded;
use crate::domain::containment::image::BeforeImage;
use crate::domain::containment::memory::{MAX_NOTES, Note};
use crate::domain::containment::state::Step;
use crate::ports::{Lease, StoreError};

impl Disk {
    fn open_image(&self, image: &BeforeImage) -> Option<usize> {
        self.images.iter().position(|stored| {
            stored.restored_at.is_none() && stored.agent == image.agent && stored.resource == image.resource
        })
    }

    /// The first one that was not restored is the one that counts (C1): a later one is not recorded.
    pub(super) fn record_images(&mut self, lease: &Lease, images: &[BeforeImage]) -> Result<(), StoreError> {
        self.check_lease(lease)?;
        for image in images {
            if image.restored_at.is_some() || self.open_image(image).is_none() {
                self.images.push(image.clone());
            }
        }
        Ok(())
    }

    pub(super) fn read_back(&self, images: &[BeforeImage]) -> Result<Vec<BeforeImage>, StoreError> {
        let stored = images.iter().map(|image| {
            let at = self.open_image(image);
            at.and_then(|at| self.images.get(at)).cloned()
        });
        let stored: Option<Vec<_>> = stored.collect();
        stored.ok_or(StoreError::Conflict { what: "a before-image" })
    }

    /// What was there before is never written again: only what became of it.
    pub(super) fn update_images(&mut self, lease: &Lease, images: &[BeforeImage]) -> Result<(), StoreError> {
        self.check_lease(lease)?;
        let mut changed = self.images.clone();
        for image in images {
            let stored = changed.iter_mut().find(|stored| {
                stored.restored_at.is_none() && stored.agent == image.agent && stored.resource == image.resource
            });
            let stored = stored.ok_or(StoreError::NotFound {
                what: "the before-image",
            })?;
            stored.changed_at = image.changed_at;
            stored.restored_at = image.restored_at;
            stored.outcome.clone_from(&image.outcome);
        }
        self.images = changed;
        Ok(())
    }

    /// Both on a copy: all of it or nothing.
    pub(super) fn supersede_images(
        &mut self,
        lease: &Lease,
        ended: &[BeforeImage],
        images: &[BeforeImage],
    ) -> Result<(), StoreError> {
        let before = self.images.clone();
        let done = self
            .update_images(lease, ended)
            .and_then(|()| self.record_images(lease, images));
        if done.is_err() {
            self.images = before;
        }
        done
    }

    /// What was ended and is gone.
    pub(super) fn fold(&mut self, folded: &[Folded]) {
        for one in folded {
            self.images.retain(|image| {
                image.restored_at.is_some() || image.agent != one.agent || image.resource != one.resource
            });
            let id = one.step_id();
            self.steps
                .retain(|step| step.containment != one.containment || step.id != id);
        }
    }

    pub(super) fn record_steps(&mut self, lease: &Lease, steps: &[Step]) -> Result<(), StoreError> {
        self.check_lease(lease)?;
        for step in steps {
            let same = |stored: &&mut Step| stored.containment == step.containment && stored.id == step.id;
            match self.steps.iter_mut().find(same) {
                Some(stored) => stored.clone_from(step),
                None => self.steps.push(step.clone()),
            }
        }
        Ok(())
    }

    pub(super) fn remember(&mut self, notes: &[Note]) {
        for note in notes {
            self.notes.insert(note.fact.key(), note.clone());
        }
        for note in self.remembered().iter().skip(MAX_NOTES) {
            self.notes.remove(&note.fact.key());
        }
    }

    /// The newest first.
    pub(super) fn remembered(&self) -> Vec<Note> {
        let mut notes: Vec<(&String, &Note)> = self.notes.iter().collect();
        notes.sort_by_key(|(key, note)| (std::cmp::Reverse(note.learnt_at), *key));
        notes.into_iter().map(|(_, note)| note.clone()).collect()
    }
}
