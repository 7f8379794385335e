//! Where settings come from, and which of them each value came from: defaults < overlay of the environment < file <
//! variables. Each file and each variable is a layer with a name of its own, so that every value knows its origin.

use std::path::{Path, PathBuf};

use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::environment::Environment;
use super::features::Features;
use super::load::ConfigError;

const DEFAULTS: &str = include_str!("../../config/default.toml");
const ENVIRONMENT_VARIABLE: &str = "BACKEND_ENVIRONMENT";
const PREFIX: &str = "BACKEND__";

/// What settings are read from. Kept, to read them again.
#[derive(Debug, Clone)]
pub struct Sources {
    environment: Environment,
    file: Option<PathBuf>,
    /// A text that stands for the file, and its name.
    text: Option<(&'static str, String)>,
    variables: Vec<(String, String)>,
}

impl Sources {
    /// Of this process: the environment from `--environment`, else from `BACKEND_ENVIRONMENT`, else development.
    pub fn of_process(
        environment: Option<Environment>,
        file: Option<&Path>,
    ) -> Result<Self, ConfigError> {
        let environment = match (environment, std::env::var(ENVIRONMENT_VARIABLE)) {
            (Some(environment), _) => environment,
            (None, Ok(name)) => name.parse().map_err(|error| {
                ConfigError::Invalid(vec![format!("variable {ENVIRONMENT_VARIABLE}: {error}")])
            })?,
            (None, Err(_)) => Environment::default(),
        };
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| setting_of(name).is_some());
        let mut variables: Vec<_> = variables.collect();
        // Plain names first: those with the prefix say more, and win.
        variables.sort_by_key(|(name, _)| (name.starts_with(PREFIX), name.clone()));
        Ok(Self { environment, file: file.map(Path::to_owned), text: None, variables })
    }

    /// An environment and variables, without a file.
    pub(crate) fn of(environment: Environment, variables: &[(&str, &str)]) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self {
            environment,
            file: None,
            text: None,
            variables: variables.iter().map(owned).collect(),
        }
    }

    /// With a text in the place of the file.
    pub(crate) fn with_text(mut self, name: &'static str, text: &str) -> Self {
        self.text = Some((name, text.to_owned()));
        self
    }

    /// With a file.
    #[cfg(test)]
    pub(super) fn with_file(mut self, file: &Path) -> Self {
        self.file = Some(file.to_owned());
        self
    }

    pub(super) const fn environment(&self) -> Environment {
        self.environment
    }

    /// The layers, the last above all others; an error when one of them is no TOML.
    pub(super) fn layers(&self) -> Result<Figment, ConfigError> {
        let mut layers = defaults().merge(Layer::toml(
            format!("environment {}", self.environment),
            self.environment.overlay(),
        )?);
        if let Some(path) = &self.file {
            if !path.is_file() {
                return Err(ConfigError::NoFile(path.clone()));
            }
            let name = format!("file {}", path.display());
            let text = std::fs::read_to_string(path)
                .map_err(|error| ConfigError::Invalid(vec![format!("{name}: {error}")]))?;
            layers = layers.merge(Layer::toml(name, &text)?);
        }
        if let Some((name, text)) = &self.text {
            layers = layers.merge(Layer::toml(format!("file {name}"), text)?);
        }
        for (name, value) in &self.variables {
            if let Some(setting) = setting_of(name) {
                let value: Value = match (value.as_str(), name.starts_with(PREFIX)) {
                    ("1", false) => true.into(),
                    ("0", false) => false.into(),
                    (text, _) => text.parse().expect("any text is a value"),
                };
                let nested = figment::util::nest(&setting, value);
                let data = nested.into_dict().expect("a nested value is in a dictionary");
                layers = layers.merge(Layer { origin: format!("variable {name}"), data });
            }
        }
        Ok(layers)
    }
}

/// The defaults alone.
pub(super) fn defaults() -> Figment {
    let layer = Layer::toml("default".to_owned(), DEFAULTS);
    Figment::from(layer.expect("config/default.toml is TOML"))
}

/// `server.listen` of `BACKEND__SERVER__LISTEN`, and the settings of the plain variables.
fn setting_of(variable: &str) -> Option<String> {
    if let Some(name) = variable.strip_prefix(PREFIX) {
        return Some(name.to_ascii_lowercase().replace("__", "."));
    }
    let plain = Features::VARIABLES.iter().find(|(name, _)| *name == variable);
    plain.map(|(_, setting)| (*setting).to_owned())
}

/// One source of settings.
struct Layer {
    origin: String,
    data: Dict,
}

impl Layer {
    fn toml(origin: String, text: &str) -> Result<Self, ConfigError> {
        match Toml::from_str(text) {
            Ok(data) => Ok(Self { origin, data }),
            Err(error) => Err(ConfigError::Invalid(vec![format!("{origin}: {error}")])),
        }
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.data.clone()))
    }
}

/// The name of the layer that a setting came from.
pub(super) fn origin(layers: &Figment, setting: &str) -> Option<String> {
    let tag = layers.find_value(setting).ok()?.tag();
    Some(layers.get_metadata(tag)?.name.to_string())
}
