"""What both networks share.

Data flows one way, and a module imports only from those before it:

    errors, files, memory, device, settings, layers, channels_last
    matfile → scene → preprocess → split → patches → predict → optimizers → train
    → metrics → pictures → report → weights → experiment → cli

Beside that line stand `download` (fetches the scenes) and `results_table` (the README's table).
"""
