use std::fmt;

use http::Method;

/// The paths of OpenAI's API that are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Endpoint {
    /// `POST /v1/audio/speech`
    AudioSpeech,
    /// `POST /v1/audio/transcriptions`
    AudioTranscriptions,
    /// `POST /v1/audio/translations`
    AudioTranslations,
    /// `POST /v1/chat/completions`
    ChatCompletions,
    /// `POST /v1/completions`
    Completions,
    /// `POST /v1/embeddings`
    Embeddings,
    /// `POST /v1/images/generations`
    ImagesGenerations,
    /// `GET /v1/models`
    Models,
    /// `POST /v1/responses`
    Responses,
}

impl Endpoint {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::AudioSpeech,
        Self::AudioTranscriptions,
        Self::AudioTranslations,
        Self::ChatCompletions,
        Self::Completions,
        Self::Embeddings,
        Self::ImagesGenerations,
        Self::Models,
        Self::Responses,
    ];

    /// The endpoint at exactly this path.
    #[must_use]
    pub fn at(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.path() == path)
    }

    /// The path.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::AudioSpeech => "/v1/audio/speech",
            Self::AudioTranscriptions => "/v1/audio/transcriptions",
            Self::AudioTranslations => "/v1/audio/translations",
            Self::ChatCompletions => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
            Self::Embeddings => "/v1/embeddings",
            Self::ImagesGenerations => "/v1/images/generations",
            Self::Models => "/v1/models",
            Self::Responses => "/v1/responses",
        }
    }

    /// The one method that it takes; for `Allow`.
    #[must_use]
    pub const fn method(self) -> Method {
        match self {
            Self::Models => Method::GET,
            _ => Method::POST,
        }
    }

    /// The path without `/v1`.
    pub(crate) fn tail(self) -> &'static str {
        self.path().strip_prefix("/v1").unwrap_or_default()
    }

    /// What the request carries.
    pub(crate) const fn payload(self) -> Payload {
        match self {
            Self::AudioTranscriptions | Self::AudioTranslations => Payload::Form,
            Self::Models => Payload::None,
            _ => Payload::Json,
        }
    }
}

/// What there is of each endpoint.
#[derive(Clone, Debug)]
pub(crate) struct PerEndpoint<T>(Box<[(Endpoint, T)]>);

impl<T> PerEndpoint<T> {
    pub(crate) fn new(of: impl Fn(Endpoint) -> T) -> Self {
        Self(
            Endpoint::ALL
                .map(|endpoint| (endpoint, of(endpoint)))
                .into(),
        )
    }

    /// That of this endpoint.
    pub(crate) fn get(&self, endpoint: Endpoint) -> Option<&T> {
        let mut all = self.0.iter();
        all.find_map(|(known, of)| (*known == endpoint).then_some(of))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.path())
    }
}

/// What a request to an endpoint carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    /// `multipart/form-data`, passed on as it comes.
    Form,
    /// A JSON object.
    Json,
    /// Nothing.
    None,
}

/// The endpoint that serves a request, if path and method are one's. For a path that [`Endpoint::at`] knows
/// and another method, the answer is 405 with [`Endpoint::method`] in `Allow`.
///
/// ```
/// use http::Method;
/// use proactions_ai_link::{Endpoint, route};
///
/// assert_eq!(route(&Method::POST, "/v1/embeddings"), Some(Endpoint::Embeddings));
/// assert_eq!(route(&Method::GET, "/v1/embeddings"), None);
/// assert_eq!(route(&Method::POST, "/v1/embeddings/"), None);
/// ```
#[must_use]
pub fn route(method: &Method, path: &str) -> Option<Endpoint> {
    Endpoint::at(path).filter(|endpoint| endpoint.method() == *method)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_exact_and_have_one_method() {
        for endpoint in Endpoint::ALL {
            assert_eq!(route(&endpoint.method(), endpoint.path()), Some(endpoint));
            assert_eq!(route(&Method::DELETE, endpoint.path()), None);
            assert_eq!(Endpoint::at(&endpoint.path().to_uppercase()), None);
            assert_eq!(Endpoint::at(&format!("{}/", endpoint.path())), None);
            assert_eq!(format!("/v1{}", endpoint.tail()), endpoint.path());
        }
        assert_eq!(Endpoint::at("/v1/files"), None);
    }
}
