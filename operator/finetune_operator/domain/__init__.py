"""The pure heart of the operator: facts in, one decision out.

Nothing here performs I/O, reads a clock, draws random numbers or logs; `plan.plan` is a total
function of one `observed.Observation`. That is what makes every crash point testable: a crash is
just another observation.
"""
