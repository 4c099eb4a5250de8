//! Adapters: models of their own beside the one that they are applied to, added and taken away while others run.

use std::path::Path;
use std::sync::Arc;

use super::{Entry, ModelError, Registry};
use crate::folder;
use crate::model::ModelFiles;
use crate::sync::lock;

/// Characters of a name.
const LONGEST: usize = 200;

impl Registry {
    /// Serves the model `base` with the adapter at `path` as a model of its own, called `name`, which is not loaded yet. An
    /// adapter that has this name already is replaced: those who have a lease of it go on with it. Without `base`, the
    /// model is that of the adapter to be replaced, or the only one that there is.
    ///
    /// # Errors
    /// When the name is a model's, or none; when there is no such base, or it is not said which; when the adapter cannot
    /// be applied to it.
    pub fn add_adapter(&self, name: &str, base: Option<&str>, path: &Path) -> Result<(), ModelError> {
        let shown: String = name.chars().take(LONGEST).collect();
        let refused = |reason: String| ModelError::Adapter { name: shown.clone(), reason };
        if name.is_empty() || name.chars().count() > LONGEST || name.chars().any(char::is_control) {
            return Err(refused(format!("a name has 1 to {LONGEST} characters, none of them for control")));
        }
        let base = match base {
            Some(base) => base.to_owned(),
            None => self.base_of(name).map_err(refused)?,
        };
        let under = self.entry(&base)?;
        if under.parent.is_some() {
            return Err(refused(format!("`{base}` is an adapter, and can have none beside it")));
        }
        let path = std::path::absolute(path).map_err(|e| refused(format!("{}: {e}", path.display())))?;
        let files = ModelFiles { path: under.files.path.clone(), adapter: Some(path) };
        let entry = self.inspect(files, Some(base)).map_err(|e| refused(e.to_string()))?;
        let _deciding = lock(&self.deciding);
        let mut entries = lock(&self.entries);
        if entries.get(name).is_some_and(|other| other.parent.is_none()) {
            return Err(refused("a model has this name; choose another".to_owned()));
        }
        if let Some(old) = entries.insert(name.to_owned(), Arc::new(entry)) {
            self.retire(&old);
        }
        Ok(())
    }

    /// [`Registry::add_adapter`] of what lies within the folder of adapters, named relative to it or in full.
    ///
    /// # Errors
    /// When it lies outside of the folder, or as [`Registry::add_adapter`].
    pub fn add_adapter_from_folder(
        &self,
        name: &str,
        base: Option<&str>,
        path: &str,
    ) -> Result<(), ModelError> {
        let Some(folder) = self.options.adapters.as_ref().or(self.options.folder.as_ref()) else {
            let what = "the server has no folder of adapters; start it with --adapters FOLDER";
            return Err(ModelError::Path(what.to_owned()));
        };
        self.add_adapter(name, base, &folder::within(folder, path).map_err(ModelError::Path)?)
    }

    /// The model that an adapter called `name` is applied to when nobody says.
    fn base_of(&self, name: &str) -> Result<String, String> {
        let entries = lock(&self.entries);
        if let Some(parent) = entries.get(name).and_then(|entry| entry.parent.clone()) {
            return Ok(parent);
        }
        let bases: Vec<&String> =
            entries.iter().filter(|(_, e)| e.parent.is_none()).map(|(n, _)| n).collect();
        match &bases[..] {
            [only] => Ok((*only).clone()),
            [] => Err("there is no model to apply it to".to_owned()),
            [first, ..] => {
                let what = "there are several models; say which it is applied to with `base_model_name`";
                Err(format!("{what}, such as `{first}`"))
            }
        }
    }

    /// Takes an adapter away: it is unloaded when its last request is done, and has no name any more.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn remove_adapter(&self, name: &str) -> Result<(), ModelError> {
        let _deciding = lock(&self.deciding);
        if self.entry(name)?.parent.is_none() {
            let reason = "a model has this name, and models stay".to_owned();
            return Err(ModelError::Adapter { name: name.to_owned(), reason });
        }
        if let Some(old) = lock(&self.entries).remove(name) {
            self.retire(&old);
        }
        Ok(())
    }

    /// Lets go of an entry that has no name any more. What it takes of the memory counts until nobody has a lease of it.
    pub(super) fn retire(&self, entry: &Arc<Entry>) {
        entry.unload();
        let mut retired = lock(&self.retired);
        retired.retain(|entry| entry.strong_count() > 0);
        retired.push(Arc::downgrade(entry));
    }
}
