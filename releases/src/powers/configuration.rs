//! sysusers.d and tmpfiles.d: lines of words, which systemd obeys one by one.

use super::unit_file::words;

/// The lines that are obeyed, as they stand there: neither empty nor comments.
pub(super) fn lines(text: &str) -> Vec<String> {
    // Cut at every end of line that systemd knows, as units are.
    let lines = text.split(['\n', '\r', '\0']).map(|line| line.trim_matches([' ', '\t']));
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

/// Lines of tmpfiles.d with a mode beyond the permission bits, or with one that is no plain number.
pub(super) fn special_modes(text: &str) -> Vec<String> {
    let special = |line: &String| {
        let mode = words(line).into_iter().nth(2).map(|word| word.text);
        let mode = mode.as_deref().unwrap_or("-");
        let octal = mode.trim_start_matches(['~', ':']);
        let plain = u32::from_str_radix(octal, 8).is_ok_and(|mode| mode & 0o7000 == 0);
        mode != "-" && !plain
    };
    lines(text).into_iter().filter(special).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_that_is_obeyed_is_quoted() {
        let text = "# who\n\nu a - \"A  B\"\n\tu b -\n; no comment here\n# x\ru c\n";
        assert_eq!(lines(text), ["u a - \"A  B\"", "u b -", "; no comment here", "u c"]);
    }

    #[test]
    fn a_mode_hides_in_no_quotes() {
        let text = "d /run/a 0755\nd /run/b -\nd /run/c\nf /run/d ~1777\nf /run/e \"4755\" root\n\
                    f \"/run/f 0755 x\" 4755\nf /run/g 47\\x355\nf /run/h :0644\n";
        let special = special_modes(text);
        let paths: Vec<&str> = special.iter().map(|line| &line[2..]).collect();
        assert_eq!(
            paths,
            ["/run/d ~1777", "/run/e \"4755\" root", "\"/run/f 0755 x\" 4755", "/run/g 47\\x355"]
        );
    }
}
