"""Claims about finished reports: does it hold, is it reversed, or is it not shown?"""
