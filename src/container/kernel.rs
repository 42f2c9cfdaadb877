//! The kernel's own words: how new it is.

/// A version: the first two numbers, such as those of "6.1.0-40-amd64".
pub fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Is this kernel as new as that? One that does not say is.
pub fn is_since(wanted: (u32, u32)) -> bool {
    let release = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned());
    is_release_since(&release.unwrap_or_default(), wanted)
}

fn is_release_since(release: &str, wanted: (u32, u32)) -> bool {
    version(release).is_none_or(|version| version >= wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_as_numbers() {
        for (release, is) in [
            ("5.12.0", false),
            ("5.18.19-generic", false),
            ("5.19-rc1", true),
            ("6.1.0-40-amd64", true),
            ("10.0", true),
            ("", true),
            ("odd", true),
        ] {
            assert_eq!(is_release_since(release, (5, 19)), is, "{release}");
        }
    }
}
