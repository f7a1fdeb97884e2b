'use strict';

// Sorting: numbers as numbers, empty cells last whichever way.
function sortTable(head) {
  const table = head.closest('table');
  const heads = [...head.parentElement.children];
  const column = heads.indexOf(head);
  const first = head.querySelector('button').dataset.first;
  const other = first === 'ascending' ? 'descending' : 'ascending';
  const order = head.getAttribute('aria-sort') === first ? other : first;
  const sign = order === 'ascending' ? 1 : -1;
  const body = table.tBodies[0];
  const keyed = [...body.rows].map((row) => [row.cells[column].dataset.value, row]);
  const isNumber = keyed.every(([value]) => value === '' || Number.isFinite(Number(value)));
  keyed.sort(([a], [b]) => {
    if (a === '' || b === '') return (a === '') - (b === '');
    return sign * (isNumber ? a - b : a.localeCompare(b, 'en', {numeric: true}));
  });
  body.append(...keyed.map(([, row]) => row));
  for (const each of heads) each.setAttribute('aria-sort', each === head ? order : 'none');
}

for (const button of document.querySelectorAll('.sortable thead button')) {
  button.addEventListener('click', () => sortTable(button.closest('th')));
}

// A line of the legend brings its curves forward.
for (const figure of document.querySelectorAll('figure.curves')) {
  for (const line of figure.querySelectorAll('.legend tr[data-series]')) {
    const mark = (on) => {
      for (const path of figure.querySelectorAll('path[data-series]')) {
        path.classList.toggle('faded', on && path.dataset.series !== line.dataset.series);
      }
    };
    line.addEventListener('pointerenter', () => mark(true));
    line.addEventListener('pointerleave', () => mark(false));
  }
}

// A click on a picture shows it large.
const zoom = document.getElementById('zoom');
for (const button of document.querySelectorAll('button.zoom')) {
  button.addEventListener('click', () => {
    const image = button.querySelector('img');
    zoom.querySelector('img').src = image.src;
    zoom.querySelector('img').alt = image.alt;
    zoom.showModal();
  });
}
zoom.addEventListener('click', () => zoom.close());

// A link into a closed part opens it.
function openTarget() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const part = target && target.closest('details');
  if (part && !part.open) {
    part.open = true;
    target.scrollIntoView();
  }
}
addEventListener('hashchange', openTarget);
openTarget();
