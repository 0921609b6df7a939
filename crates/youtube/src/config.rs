use std::path::PathBuf;

use proactions_edge::{ConfigProblem, SecretString};

/// Section `youtube`.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(feature = "config", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct YoutubeConfig {
    /// The accounts that uploads go to. Required.
    pub accounts: Vec<YoutubeAccount>,
    /// The directory of the token files; `./tokens` unless set.
    pub token_storage_path: PathBuf,
    /// The name of an account's token file, with `{id}` for the account; `youtube_token_{id}.json` unless
    /// set.
    pub token_storage_file: String,
    /// Google's URLs, for tests against a local stand-in.
    pub endpoints: YoutubeEndpoints,
}

impl Default for YoutubeConfig {
    fn default() -> Self {
        Self {
            accounts: Vec::new(),
            token_storage_path: PathBuf::from("./tokens"),
            token_storage_file: "youtube_token_{id}.json".to_owned(),
            endpoints: YoutubeEndpoints::default(),
        }
    }
}

/// One entry of `youtube.accounts`.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(feature = "config", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct YoutubeAccount {
    /// The name that requests choose the account by. Required.
    pub id: String,
    /// The OAuth client at Google. Required.
    pub client_id: String,
    /// Its secret. Required.
    pub client_secret: SecretString,
    /// Where Google sends the browser back to: `https://…/youtube/auth/google/callback`. Required.
    pub redirect_uri: String,
    /// What the account allows, separated by spaces; `https://www.googleapis.com/auth/youtube.upload`
    /// unless set.
    pub scope: String,
}

impl Default for YoutubeAccount {
    fn default() -> Self {
        Self {
            id: String::new(),
            client_id: String::new(),
            client_secret: SecretString::from(""),
            redirect_uri: String::new(),
            scope: "https://www.googleapis.com/auth/youtube.upload".to_owned(),
        }
    }
}

/// `youtube.endpoints`.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(feature = "config", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct YoutubeEndpoints {
    /// Where the browser asks the user; `https://accounts.google.com/o/oauth2/v2/auth` unless set.
    pub authorize: String,
    /// Where codes and refresh tokens are exchanged; `https://oauth2.googleapis.com/token` unless set.
    pub token: String,
    /// Where tokens are revoked; `https://oauth2.googleapis.com/revoke` unless set.
    pub revoke: String,
    /// The base of the YouTube API; `https://www.googleapis.com` unless set.
    pub api: String,
}

impl Default for YoutubeEndpoints {
    fn default() -> Self {
        Self {
            authorize: "https://accounts.google.com/o/oauth2/v2/auth".to_owned(),
            token: "https://oauth2.googleapis.com/token".to_owned(),
            revoke: "https://oauth2.googleapis.com/revoke".to_owned(),
            api: "https://www.googleapis.com".to_owned(),
        }
    }
}

impl YoutubeConfig {
    /// Settings that are legal and dangerous.
    #[must_use]
    pub fn warnings(&self) -> Vec<ConfigProblem> {
        const EVERYTHING: [&str; 2] = [
            "https://www.googleapis.com/auth/youtube",
            "https://www.googleapis.com/auth/youtube.force-ssl",
        ];
        self.accounts
            .iter()
            .enumerate()
            .filter(|(_, account)| {
                account
                    .scope
                    .split_whitespace()
                    .any(|scope| EVERYTHING.contains(&scope))
            })
            .map(|(index, _)| {
                let message = "gives access to the whole account; \
                               https://www.googleapis.com/auth/youtube.upload is enough to upload";
                ConfigProblem::new(format!("accounts[{index}].scope"), message)
            })
            .collect()
    }
}
