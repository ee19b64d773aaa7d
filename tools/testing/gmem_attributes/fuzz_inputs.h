/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What saved_inputs() runs.  A set of inputs that comes by wherever libFuzzer has
 * ever come by, and what it has found.
 */
	"6l992;9=``f982>```87:````f9:28```An9`f",
	"6l992;9T``f9:576PPPPPPPPPPPPPPPPPPPPPPPPP92;9T`m@A`f9:57559\?;;fb;:PNNNNNNA;9;f559\?;;fb;:PNNNNNNA;9;f",
	"6l992;9T``f``576PPPPPePPPPPPPPPPPPPPPPQ```````PPP92;9T`m@A`f9:5````755`````J2C3``CJ`kkC==================================================3``>```````CJ`kckk3kiDD`DDDMkQ``:PNNNNNNA;`DD9DM;f",
	"6l992;`GNd;9f;9:;`9PA9];9NGd;9;f9:gPQ9l;;9;f9:9>;9:9;f9:9>;9:9>;`8P````99;f9:9>;`8P`````V992;e20[FE::`EIR[:J:FE`[:;f9:gPA9l;9;f9:9>`G>Z`E[Zoe`;91;9>Gd;9;f9:gPA9l;9;f9:9>;9:`6P``>;l999;f9:9>;9:9>;`8P````````>;`6P``>;l992;9GNe;9f;9;MMM;f",
	"6l992;`GNd;9f;9;9`:PK9];9NGe;9Bf9:9QPgl;;9;f9:9>;99`o:9;f9:9>;9:9>;`E8P````````>;`6P`gggg`;l82````````e;9f;9;MMM;f",
	"6l9``f9:57559``9:3`5YYY;9GN;``YYYYYYaYNPN992575YYY;9GN;``YYYY92;9;``f9:aY57559b`;:NPN992;9;``f9:575YYY;9GN`GNd;9f;9;9`:PA9];9;``f9:575YYY`:PA9];9NGd;9;f9:gPQ9l;;9;f9:9>;9:9;f9:9>;9:f9:9>;9:9;f9:9>;9:9>;`8P``YaYYC```````f",
	"6l```f`G6l99N92;`GNd;9f;9;k`:PA9];9NGd;9;f9:gPQ9l;;9;f9:9>;9:9;f9:Nd;9f;9;9`:PA9];9NGd;8;f9:gPQ9l;;9;f9:20[FE:7DE`R[:J:FE`[:`G>Z`E[Zoe`;91;9>Gd;9;f9:gPA9l;9;f99];9NGd;9;f9:gPQ9l;;9;:8>;9:9;f9:9>;9:9>;`7P````````>;`4o`6P2",
	"992;9`;99;f9:eD\?```1111111111111111>```1`",
	"992;9`;KKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKK9",
	";;`5",
	"@`````````",
	"`",
	"d50=D2J`2CC`",

	/* A change that fails leaves neighbors that are equal. */
	"992;9````;f9:i945b``K;000000677kk``7",
