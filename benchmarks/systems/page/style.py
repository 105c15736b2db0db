"""How the page looks: one set of colours for light, one for dark; narrow pages scroll tables."""

STYLE = """
:root { color-scheme: light dark; --bg: #ffffff; --fg: #1b1f24; --dim: #57606a; --line: #d0d7de;
  --wins: #1f7a4d; --loses: #b3541e; --read: #4878a8; --move: #b8862d; --run: #3a8f5c;
  --deliver: #9a5aa8; --other: #7d8590; --c0: #1b1f24; --c1: #2166ac; --c2: #b2182b; --c3: #1b7837;
  --c4: #8c510a; --c5: #762a83; --c6: #c51b7d; }
@media (prefers-color-scheme: dark) { :root { --bg: #14171b; --fg: #e6e9ed; --dim: #9aa4af;
  --line: #333a42; --wins: #2f9e68; --loses: #c9703a; --read: #6ea3d8; --move: #d9a94e;
  --run: #5cba82; --deliver: #c286d0; --other: #8b949e; --c0: #e6e9ed; --c1: #78b0e6; --c2: #ef7b7b;
  --c3: #6cc486; --c4: #d6a05a; --c5: #bf8fd6; --c6: #f08cc0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 100rem; background: var(--bg); color: var(--fg);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .5rem; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .4rem; padding-top: .6rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
p { margin: .3rem 0 .6rem; max-width: 75ch; }
.dim, .caption, figcaption { color: var(--dim); }
.caption, figcaption { font-size: .9rem; margin: .4rem 0 .2rem; }
.wide { overflow-x: auto; margin: 0 0 .8rem; }
.beside { display: flex; flex-wrap: wrap; gap: .4rem 2.4rem; }
.beside > div { max-width: 19rem; }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums; }
th, td { padding: .18rem .5rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th[scope=row] { text-align: left; font-weight: 500; position: sticky; left: 0;
  background: var(--bg); max-width: 11rem; overflow: hidden; text-overflow: ellipsis; }
th[scope=col] { font-weight: 600; vertical-align: bottom; }
th[scope=col]:first-child, td.left { text-align: left; }
td.wins { background: color-mix(in srgb, var(--wins) calc(var(--v) * 1%), var(--bg)); }
td.loses { background: color-mix(in srgb, var(--loses) calc(var(--v) * 1%), var(--bg)); }
details { margin: .3rem 0; } summary { cursor: pointer; padding: .15rem 0; }
figure { margin: .6rem 0 1rem; }
svg { width: 100%; height: auto; display: block; min-width: 40rem; max-width: 60rem; }
svg text { fill: var(--fg); font: 12px system-ui, sans-serif; } svg .dim { fill: var(--dim); }
svg .axis { stroke: var(--line); fill: none; } svg .line { fill: none; stroke-width: 2; }
.read { fill: var(--read); } .move { fill: var(--move); } .run { fill: var(--run); }
.deliver { fill: var(--deliver); } .other { fill: var(--other); }
.key { display: inline-block; width: .8em; height: .8em; margin: 0 .3em 0 .9em; }
.key:first-child { margin-left: 0; }
"""
