"""What both networks share.  Data flows one way through these modules:

settings → scene → preprocess → split → patches → train → evaluate → metrics → report → experiment → cli

A module imports only from those before it.
"""
