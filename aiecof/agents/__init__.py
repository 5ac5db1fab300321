"""Who decides: rules, TOPPO and the methods it is compared with (Section IV)."""
