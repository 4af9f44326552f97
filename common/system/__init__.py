"""The machine: errors, files, memory, device, interrupts, the values of flags."""
