"""Unit tests: a package, so that their modules may be named as those of other folders."""
