// The overlay that the reader can write to, in chapter 3.
"use strict";
