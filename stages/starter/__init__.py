"""A first recipe from a folder of data, labels and networks (`hyperloom init`); pilots of a recipe (`run --pilot`)"""
