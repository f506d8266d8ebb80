"""The OpenFlow controller: pure logic, events and ``now`` in, messages out.

RulesDB, Locator, PathFinder, Installed rules and Discovery are the five parts of the 2012 prototype;
the compiler turns networks into rules, reactive makes rules when packets ask for them, and core joins
them. Only shell does I/O.
"""
