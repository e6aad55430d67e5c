"""The one error that users of lapjax see."""


class LapjaxError(ValueError):
    """Bad input: the message names the file, field or option at fault and the remedy.

    The command line prints it without a traceback and exits with status 2.
    """
