//! What is sent to the API in the place of the API key: the content of a file that a setting names.
//!
//! For an API that is not the vendor's, such as the relay of a Kubernetes cluster: it need not know the key, and the
//! collector still gets the key. It is read as the file with the API key is.

use std::path::PathBuf;

use super::precedence::Layers;
use super::{Secret, api_key, parse};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateToken {
    /// It may change at any time.
    pub path: PathBuf,
    pub text: Secret,
}

/// The token, with the setting's row. What is wrong with the file is a problem.
pub fn choose(from: &mut Layers<'_>) -> Option<UpdateToken> {
    let path = from.take("update-token-file", parse::path)?;
    let text = api_key::named_file(from, "update-token-file", "the update token", &path)?;
    from.show("update-token-file", &path.display().to_string());
    Some(UpdateToken { path, text })
}
