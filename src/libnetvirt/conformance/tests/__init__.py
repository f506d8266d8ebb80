"""The tests of the suite, by subject. :mod:`libnetvirt.conformance.suite` imports them all."""
