"""What the networks share, in folders through which data flows from the last to the first.

`settings`, `recipe` and `layers` are to be read first.  A folder imports only from those that
stand below it here:

    run         a command from start to end
    tables      results directories side by side
    reporting   one results directory
    training    one network on one split
    samples     from a scene to batches
    scenes      from files to a scene
    fast        the layers of `layers`, many times faster
    system      the machine: errors, files, memory, device
"""
