"""The page of `keras_vitbert.demo`: what it shows, how that is drawn, and its layout."""
